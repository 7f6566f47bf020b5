#include "ratelimiter/limiter/limit.h"

#include <cstdint>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/status.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using testing::FailsWith;
using testing::Succeeds;

using enum absl::StatusCode;

constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kRoot = std::uint64_t{1} << 26U;  // kRoot × kRoot is the bound.

TEST(LimitTest, AcceptsWhatPeopleAskFor) {
  EXPECT_THAT(Validate({"l", 5, 1, 2s}), Succeeds());
  EXPECT_THAT(Validate({"l", 1'000'000, 1'000'000, 24h}), Succeeds());
  EXPECT_THAT(Validate({"l", 7, 7, 3ms}), Succeeds());
  EXPECT_THAT(Validate({"l", 1, 1, 30 * 24h}), Succeeds());
}

TEST(LimitTest, NamesTheNumberThatIsNotAccepted) {
  EXPECT_THAT(Validate({"l", 0, 1, 2s}),
              FailsWith(kInvalidArgument, "limit \"l\": capacity is 0; accepted: 1 and more"));
  EXPECT_THAT(Validate({"l", 1, 0, 2s}),
              FailsWith(kInvalidArgument, "limit \"l\": refill tokens is 0; accepted: 1 and more"));
  EXPECT_THAT(
      Validate({"l", 1, 1, 999us}),
      FailsWith(kInvalidArgument, "limit \"l\": refill interval is 999us; accepted: 1ms to 30d"));
  EXPECT_THAT(Validate({"l", 1, 1, 30 * 24h + 1us}),
              FailsWith(kInvalidArgument,
                        "limit \"l\": refill interval is 2592000000001us; accepted: 1ms to 30d"));
  EXPECT_THAT(
      Validate({"l", 1, 1, -2s}),
      FailsWith(kInvalidArgument, "limit \"l\": refill interval is -2s; accepted: 1ms to 30d"));
}

TEST(LimitTest, CapacityTimesRefillTokensStaysBelowTheBound) {
  EXPECT_THAT(Validate({"l", kRoot, kRoot - 1, 1ms}), Succeeds());
  EXPECT_THAT(Validate({"l", 1, kExactBound - 1, 1ms}), Succeeds());
  const auto fails = FailsWith(kInvalidArgument, ::testing::HasSubstr("is 2^52 or more"));
  EXPECT_THAT(Validate({"l", kRoot, kRoot, 1ms}), fails);
  EXPECT_THAT(Validate({"l", 1, kExactBound, 1ms}), fails);
  EXPECT_THAT(Validate({"l", kExactBound, 1, 1ms}), fails);
  EXPECT_THAT(Validate({"l", 3, kExactBound / 3 + 1, 1ms}), fails);
}

TEST(LimitTest, TheTimeToFullStaysBelowTheBound) {
  EXPECT_THAT(Validate({"l", 1'737, 1, 30 * 24h}), Succeeds());
  EXPECT_THAT(Validate({"l", (kExactBound - 1) / 1'000, 1, 1ms}), Succeeds());
  EXPECT_THAT(Validate({"l", 3'474, 2, 30 * 24h}), Succeeds());
  const auto fails = FailsWith(kInvalidArgument, ::testing::HasSubstr("takes 2^52 microseconds"));
  EXPECT_THAT(Validate({"l", 1'738, 1, 30 * 24h}), fails);
  EXPECT_THAT(Validate({"l", kExactBound / 1'000 + 1, 1, 1ms}), fails);
  EXPECT_THAT(Validate({"l", 3'475, 2, 30 * 24h}), fails);
}

TEST(LimitTest, NoProductWrapsAround) {
  EXPECT_FALSE(Validate({"l", kMost, kMost, 1ms}).ok());
  EXPECT_FALSE(Validate({"l", kMost / 2 + 1, 2, 1ms}).ok());
  EXPECT_FALSE(Validate({"l", std::uint64_t{1} << 32U, std::uint64_t{1} << 32U, 1ms}).ok());
  EXPECT_FALSE(Validate({"l", kExactBound - 1, 1, 30 * 24h}).ok());
}

}  // namespace
}  // namespace ratelimiter
