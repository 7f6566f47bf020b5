#include "ratelimiter/base/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "ratelimiter/base/duration.h"
#include "support/log_file.h"
#include "support/threads.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using ::testing::EndsWith;
using ::testing::MatchesRegex;

using testing::LogFile;

constexpr const char* kTime = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z";

// What a caller could send to forge a line or a field, to recolour a terminal, to turn
// the text around, or to break a reader of UTF-8 or JSON.
const std::string kHostile =
    // NOLINTNEXTLINE(misc-misleading-bidirectional): what it is about.
    "a\n2030-01-01 error forged\r\x1B[31m\xFF\xC2\x85\"},{\\\u2028é\t=\u202E<script>";
const std::string kHarmless =
    "a\uFFFD2030-01-01 error forged\uFFFD\uFFFD[31m\uFFFD\uFFFD\"},{\\\uFFFDé\uFFFD=\uFFFD<script>";
const std::string kHarmlessQuoted =
    "\"a\uFFFD2030-01-01 error forged\uFFFD\uFFFD[31m\uFFFD\uFFFD\\\"},{\\\\\uFFFDé\uFFFD=\uFFFD<"
    "script>\"";

// What is written for one message.
std::string Logged(LogFormat format, spdlog::level::level_enum level, const std::string& message) {
  const LogFile log(format);
  log.logger()->log(level, "{}", message);
  return log.text();
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

TEST(LoggerTest, TellsTheTimeInUtc) {
  const LogFile log;
  const auto time = std::chrono::sys_days(std::chrono::year(2024) / 2 / 29) + 23h + 4min + 5s + 6us;
  log.logger()->log(time, spdlog::source_loc{}, spdlog::level::info, "then");
  EXPECT_EQ(log.text(), "2024-02-29T23:04:05.000006Z info  then\n");
}

TEST(LoggerTest, LeavesOutWhatIsBelowTheLevel) {
  EXPECT_EQ(Logged(LogFormat::kText, spdlog::level::debug, "a detail"), "");
}

TEST(LoggerTest, IsTheSameLogAtAnotherLevel) {
  const LogFile log(LogFormat::kText, spdlog::level::err);
  const auto other = log.logger()->AtLevel(spdlog::level::info);
  log.logger()->info("no");
  other->info("yes");
  log.logger()->error("this too");
  EXPECT_EQ(log.untimed(), "info  yes\nerror  this too\n");
}

TEST(LoggerTest, GoesToStderr) {
  ::testing::internal::CaptureStderr();
  const auto logger = MakeLogger(spdlog::level::info, LogFormat::kText);
  logger->info("here");
  logger->flush();
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), EndsWith(" info  here\n"));
}

TEST(LoggerTest, FieldsOfTextAreBehindATabAndQuotedWhereTheyMust) {
  const LogFile log;
  log.logger()->Write(LogKind::kAccess, spdlog::level::info, "call",
                      {{"a", "plain/value_1"},
                       {"b", ""},
                       {"c", "two words"},
                       {"d", "x=y"},
                       {"e", "\"\\"},
                       {"f", std::uint64_t{42}},
                       {"g", true},
                       {"h", "é"}});
  EXPECT_EQ(log.untimed(),
            "info  call\tkind=access a=plain/value_1 b=\"\" c=\"two words\" d=\"x=y\" "
            "e=\"\\\"\\\\\" f=42 g=true h=\"é\"\n");
}

TEST(LoggerTest, FieldsOfJsonAreKeys) {
  const LogFile log(LogFormat::kJson);
  log.logger()->Write(LogKind::kOther, spdlog::level::info, "call",
                      {{"a", "two words"}, {"b", std::uint64_t{42}}, {"c", false}});
  EXPECT_THAT(log.text(),
              EndsWith("\"message\":\"call\",\"a\":\"two words\",\"b\":42,\"c\":false}\n"));
}

TEST(LoggerTest, NothingCanForgeALineOrAFieldOfText) {
  const LogFile log;
  log.logger()->Write(LogKind::kOther, spdlog::level::info, kHostile,
                      {{"a", kHostile}, {"b", "plain"}});
  EXPECT_EQ(log.untimed(), "info  " + kHarmless + "\ta=" + kHarmlessQuoted + " b=plain\n");
}

TEST(LoggerTest, NothingCanForgeALineOrAFieldOfJson) {
  const LogFile log(LogFormat::kJson);
  log.logger()->Write(LogKind::kOther, spdlog::level::info, kHostile,
                      {{"a", kHostile}, {"b", "plain"}});
  const std::string line = log.text();
  const auto json = nlohmann::json::parse(line);
  EXPECT_EQ(json.size(), 5U);
  EXPECT_EQ(json.at("message"), kHarmless);
  EXPECT_EQ(json.at("a"), kHarmless);
  EXPECT_EQ(json.at("b"), "plain");
  EXPECT_EQ(std::ranges::count(line, '\n'), 1);
}

TEST(LoggerTest, CutsWhatIsTooLong) {
  const LogFile log(LogFormat::kJson);
  log.logger()->Write(LogKind::kOther, spdlog::level::info, std::string(8'192, 'm'),
                      {{"a", std::string(8'192, 'a')}, {"b", std::string(8'192, '\n')}});
  const auto json = nlohmann::json::parse(log.text());
  EXPECT_EQ(json.at("message"), std::string(kMaxLogMessageBytes, 'm'));
  EXPECT_EQ(json.at("a"), std::string(kMaxLogFieldBytes, 'a'));
  EXPECT_EQ(json.at("b").get<std::string>().size(), kMaxLogFieldBytes / 3 * 3);
}

// --- What is dropped ---

TEST(LoggerTest, TellsWhatWasDroppedInTheNextLineOfItsKind) {
  const LogFile log;
  Logger& logger = *log.logger();
  const std::chrono::steady_clock::time_point start(1h);
  const auto tell = [&](LogKind kind, std::chrono::steady_clock::time_point now) {
    if (logger.Admits(kind, spdlog::level::warn, now)) {
      logger.Write(kind, spdlog::level::warn, "told");
    }
  };
  for (int i = 0; i < 4; ++i) tell(LogKind::kGrpc, start);
  tell(LogKind::kProtobuf, start);
  EXPECT_EQ(log.untimed(), "warning  told\tkind=grpc\nwarning  told\tkind=protobuf\n");
  EXPECT_EQ(logger.dropped(LogKind::kGrpc), 3U);
  EXPECT_EQ(logger.dropped(LogKind::kProtobuf), 0U);
  EXPECT_EQ(logger.AtLevel(spdlog::level::err)->dropped(LogKind::kGrpc), 3U);

  tell(LogKind::kGrpc, start + 1s);
  tell(LogKind::kGrpc, start + 2s);
  EXPECT_THAT(log.untimed(),
              EndsWith("warning  told\tkind=grpc dropped=3\nwarning  told\tkind=grpc\n"));
  EXPECT_EQ(logger.dropped(LogKind::kGrpc), 3U);
}

TEST(LoggerTest, WhatCannotBeWrittenIsDropped) {
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  {
    Logger logger(spdlog::level::info, LogFormat::kText, full);
    for (int i = 0; i < 3; ++i) logger.Write(LogKind::kAccess, spdlog::level::info, "a call");
    logger.flush();
    EXPECT_EQ(logger.dropped(LogKind::kAccess), 3U);
    EXPECT_EQ(logger.dropped(LogKind::kStore), 0U);
  }
  close(full);
}

TEST(LoggerTest, WhatIsNotLoggedAnywayIsNotDropped) {
  const LogFile log(LogFormat::kText, spdlog::level::err);
  for (int i = 0; i < 2; ++i) {
    EXPECT_FALSE(log.logger()->Admits(LogKind::kStore, spdlog::level::warn));
  }
  EXPECT_EQ(log.logger()->dropped(LogKind::kStore), 0U);
  EXPECT_TRUE(log.logger()->Admits(LogKind::kStore, spdlog::level::err));
}

TEST(LoggerTest, TheLinesOfAllKindsAreBoundedAsThePageSays) {
  std::ifstream file(DOCS "/use/logs.md");
  const std::string page(std::istreambuf_iterator<char>(file), {});
  const std::chrono::steady_clock::time_point start(1h);
  for (std::size_t i = 0; i < kLogKinds; ++i) {
    const auto kind = static_cast<LogKind>(i);
    const LogLimit limit = LimitOf(kind);
    const std::string bound =
        limit.most == 0 ? "all"
                        : fmt::format("{} in {}", limit.most, FormatDuration(limit.interval));
    EXPECT_THAT(page, ::testing::HasSubstr(fmt::format("| `{}` | {} |", NameOf(kind), bound)));
    const LogFile log;
    std::uint32_t admitted = 0;
    for (int call = 0; call < 100; ++call) {
      admitted += log.logger()->Admits(kind, spdlog::level::info, start) ? 1U : 0U;
    }
    EXPECT_EQ(admitted, limit.most == 0 ? 100 : limit.most) << NameOf(kind);
  }
}

TEST(LogThrottleTest, AdmitsTheFirstOfAnInterval) {
  const std::chrono::steady_clock::time_point start(1h);
  LogThrottle throttle({.interval = 10s, .most = 2});
  EXPECT_TRUE(throttle.Admit(start));
  EXPECT_TRUE(throttle.Admit(start + 9s));
  EXPECT_FALSE(throttle.Admit(start + 9s));
  EXPECT_FALSE(throttle.Admit(start + 10s - 1ns));
  EXPECT_TRUE(throttle.Admit(start + 10s));
  EXPECT_TRUE(throttle.Admit(start + 10s));
  EXPECT_FALSE(throttle.Admit(start + 20s - 1ns));
  EXPECT_TRUE(throttle.Admit(start + 20s));
}

TEST(LogThrottleTest, AdmitsTheFirstOfAMachineThatHasJustStarted) {
  LogThrottle throttle({.interval = 10s, .most = 1});
  EXPECT_TRUE(throttle.Admit(std::chrono::steady_clock::time_point(1ms)));
  EXPECT_FALSE(throttle.Admit(std::chrono::steady_clock::time_point(2ms)));
}

TEST(LogThrottleTest, AdmitsAsManyOfThoseThatComeAtOnce) {
  const std::chrono::steady_clock::time_point now(1h);
  LogThrottle throttle({.interval = 10s, .most = 3});
  std::atomic<unsigned> admitted = 0;
  testing::OnThreads(8, [&](std::size_t /*thread*/) {
    for (int i = 0; i < 100; ++i) admitted += throttle.Admit(now) ? 1U : 0U;
  });
  EXPECT_EQ(admitted, 3U);
}

}  // namespace
}  // namespace ratelimiter
