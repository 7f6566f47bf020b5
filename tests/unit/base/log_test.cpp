#include "ratelimiter/base/log.h"

#include <algorithm>
#include <atomic>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "support/threads.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using ::testing::MatchesRegex;

constexpr const char* kTime = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z";

// What a caller could send to forge a line, to recolour a terminal, or to break
// a reader of UTF-8 or JSON.
const std::string kHostile = "a\n2030-01-01 error forged\r\x1B[31m\xFF\xC2\x85\"},{\\\u2028é";
const std::string kHarmless =
    "a\uFFFD2030-01-01 error forged\uFFFD\uFFFD[31m\uFFFD\uFFFD\"},{\\\u2028é";

// What is written for one message.
std::string Logged(LogFormat format, spdlog::level::level_enum level, const std::string& message) {
  const auto logger = MakeLogger(spdlog::level::info, format);
  ::testing::internal::CaptureStderr();
  logger->log(level, "{}", message);
  logger->flush();
  return ::testing::internal::GetCapturedStderr();
}

TEST(LoggerTest, WritesALineOfTimeLevelAndMessage) {
  EXPECT_THAT(Logged(LogFormat::kText, spdlog::level::warn, "the store is away"),
              MatchesRegex(std::string(kTime) + " warning  the store is away\n"));
}

TEST(LoggerTest, WritesAnObjectOfTimeLevelAndMessage) {
  EXPECT_THAT(Logged(LogFormat::kJson, spdlog::level::err, "the store is away"),
              MatchesRegex(std::string("\\{\"time\":\"") + kTime +
                           "\",\"level\":\"error\",\"message\":\"the store is away\"\\}\n"));
}

TEST(LoggerTest, LeavesOutWhatIsBelowTheLevel) {
  EXPECT_EQ(Logged(LogFormat::kText, spdlog::level::debug, "a detail"), "");
}

TEST(LoggerTest, NoMessageCanForgeALineOfText) {
  const std::string line = Logged(LogFormat::kText, spdlog::level::info, kHostile);
  EXPECT_THAT(line, ::testing::EndsWith(" info  " + kHarmless + "\n"));
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST(LoggerTest, NoMessageCanForgeALineOfJson) {
  const std::string line = Logged(LogFormat::kJson, spdlog::level::info, kHostile);
  EXPECT_EQ(nlohmann::json::parse(line).at("message"), kHarmless);
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST(LogThrottleTest, AdmitsOneMessageAnInterval) {
  const std::chrono::steady_clock::time_point start(1h);
  LogThrottle throttle(10s);
  EXPECT_EQ(throttle.Admit(start), 0U);
  EXPECT_EQ(throttle.Admit(start), std::nullopt);
  EXPECT_EQ(throttle.Admit(start + 10s - 1ns), std::nullopt);
  EXPECT_EQ(throttle.Admit(start + 10s), 2U);
}

TEST(LogThrottleTest, CountsWhatWasLeftOutSinceTheLastMessage) {
  const std::chrono::steady_clock::time_point start(1h);
  LogThrottle throttle(10s);
  throttle.Admit(start);
  throttle.Admit(start);
  throttle.Admit(start + 10s);
  EXPECT_EQ(throttle.Admit(start + 20s), 0U);
}

TEST(LogThrottleTest, AdmitsOneOfManyThatComeAtOnce) {
  const std::chrono::steady_clock::time_point now(1h);
  LogThrottle throttle(10s);
  std::atomic<int> admitted = 0;
  testing::OnThreads(8, [&](std::size_t /*thread*/) {
    for (int i = 0; i < 100; ++i) admitted += throttle.Admit(now).has_value() ? 1 : 0;
  });
  EXPECT_EQ(admitted, 1);
  EXPECT_EQ(throttle.Admit(now + 10s), 799U);
}

}  // namespace
}  // namespace ratelimiter
