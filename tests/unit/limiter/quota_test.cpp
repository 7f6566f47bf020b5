#include "ratelimiter/limiter/quota.h"

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

TEST(QuotaTest, AcceptsWhatPeopleAskFor) {
  EXPECT_THAT(Validate({5, 1, 2s}), Succeeds());
  EXPECT_THAT(Validate({1'000'000, 1'000'000, 24h}), Succeeds());
  EXPECT_THAT(Validate({7, 7, 3ms}), Succeeds());
  EXPECT_THAT(Validate({1, 1, 30 * 24h}), Succeeds());
}

TEST(QuotaTest, NamesTheNumberThatIsNotAccepted) {
  EXPECT_THAT(Validate({0, 1, 2s}),
              FailsWith(kInvalidArgument, "capacity is 0; accepted: 1 and more"));
  EXPECT_THAT(Validate({1, 0, 2s}),
              FailsWith(kInvalidArgument, "refill tokens is 0; accepted: 1 and more"));
  EXPECT_THAT(Validate({1, 1, 999us}),
              FailsWith(kInvalidArgument, "refill interval is 999us; accepted: 1ms to 30d"));
  EXPECT_THAT(
      Validate({1, 1, 30 * 24h + 1us}),
      FailsWith(kInvalidArgument, "refill interval is 2592000000001us; accepted: 1ms to 30d"));
  EXPECT_THAT(Validate({1, 1, -2s}),
              FailsWith(kInvalidArgument, "refill interval is -2s; accepted: 1ms to 30d"));
}

TEST(QuotaTest, CapacityTimesRefillTokensStaysBelowTheBound) {
  EXPECT_THAT(Validate({kRoot, kRoot - 1, 1ms}), Succeeds());
  EXPECT_THAT(Validate({1, kExactBound - 1, 1ms}), Succeeds());
  const auto fails = FailsWith(kInvalidArgument, ::testing::HasSubstr("is 2^52 or more"));
  EXPECT_THAT(Validate({kRoot, kRoot, 1ms}), fails);
  EXPECT_THAT(Validate({1, kExactBound, 1ms}), fails);
  EXPECT_THAT(Validate({kExactBound, 1, 1ms}), fails);
  EXPECT_THAT(Validate({3, kExactBound / 3 + 1, 1ms}), fails);
}

TEST(QuotaTest, TheTimeToFullStaysBelowTheBound) {
  EXPECT_THAT(Validate({1'737, 1, 30 * 24h}), Succeeds());
  EXPECT_THAT(Validate({(kExactBound - 1) / 1'000, 1, 1ms}), Succeeds());
  EXPECT_THAT(Validate({3'474, 2, 30 * 24h}), Succeeds());
  const auto fails = FailsWith(kInvalidArgument, ::testing::HasSubstr("takes 2^52 microseconds"));
  EXPECT_THAT(Validate({1'738, 1, 30 * 24h}), fails);
  EXPECT_THAT(Validate({kExactBound / 1'000 + 1, 1, 1ms}), fails);
  EXPECT_THAT(Validate({3'475, 2, 30 * 24h}), fails);
}

TEST(QuotaTest, NoProductWrapsAround) {
  EXPECT_FALSE(Validate({kMost, kMost, 1ms}).ok());
  EXPECT_FALSE(Validate({kMost / 2 + 1, 2, 1ms}).ok());
  EXPECT_FALSE(Validate({std::uint64_t{1} << 32U, std::uint64_t{1} << 32U, 1ms}).ok());
  EXPECT_FALSE(Validate({kExactBound - 1, 1, 30 * 24h}).ok());
}

}  // namespace
}  // namespace ratelimiter
