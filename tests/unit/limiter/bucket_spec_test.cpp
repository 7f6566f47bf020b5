#include "ratelimiter/limiter/bucket_spec.h"

#include <cstdint>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "property/generators.h"
#include "support/status.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using testing::FailsWith;
using testing::Succeeds;

using enum absl::StatusCode;

constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kRoot = std::uint64_t{1} << 26U;  // kRoot × kRoot is the bound.

TEST(BucketSpecTest, AcceptsUsualLimits) {
  EXPECT_THAT(Validate({5, 1, 2s}), Succeeds());
  EXPECT_THAT(Validate({1'000'000, 1'000'000, 24h}), Succeeds());
  EXPECT_THAT(Validate({7, 7, 3ms}), Succeeds());
  EXPECT_THAT(Validate({1, 1, 366 * 24h}), Succeeds());
}

TEST(BucketSpecTest, NamesTheParameterThatIsInvalid) {
  EXPECT_THAT(Validate({0, 1, 2s}),
              FailsWith(kInvalidArgument, "capacity is 0; accepted: 1 and more"));
  EXPECT_THAT(Validate({1, 0, 2s}),
              FailsWith(kInvalidArgument, "refill tokens is 0; accepted: 1 and more"));
  EXPECT_THAT(Validate({1, 1, 999us}),
              FailsWith(kInvalidArgument, "refill interval is 999us; accepted: 1ms to 366d"));
  EXPECT_THAT(
      Validate({1, 1, 366 * 24h + 1us}),
      FailsWith(kInvalidArgument, "refill interval is 31622400000001us; accepted: 1ms to 366d"));
  EXPECT_THAT(Validate({1, 1, -2s}),
              FailsWith(kInvalidArgument, "refill interval is -2s; accepted: 1ms to 366d"));
}

TEST(BucketSpecTest, CapacityTimesRefillTokensStaysBelowTheBound) {
  EXPECT_THAT(Validate({kRoot, kRoot - 1, 1ms}), Succeeds());
  EXPECT_THAT(Validate({1, kExactBound - 1, 1ms}), Succeeds());
  const auto fails = FailsWith(kInvalidArgument, ::testing::HasSubstr("is 2^52 or more"));
  EXPECT_THAT(Validate({kRoot, kRoot, 1ms}), fails);
  EXPECT_THAT(Validate({1, kExactBound, 1ms}), fails);
  EXPECT_THAT(Validate({kExactBound, 1, 1ms}), fails);
  EXPECT_THAT(Validate({3, kExactBound / 3 + 1, 1ms}), fails);
}

TEST(BucketSpecTest, TheTimeToFullStaysBelowTheBound) {
  EXPECT_THAT(Validate({1'737, 1, 30 * 24h}), Succeeds());
  EXPECT_THAT(Validate({(kExactBound - 1) / 1'000, 1, 1ms}), Succeeds());
  EXPECT_THAT(Validate({3'474, 2, 30 * 24h}), Succeeds());
  EXPECT_THAT(Validate({142, 1, 366 * 24h}), Succeeds());
  const auto fails = FailsWith(kInvalidArgument, ::testing::HasSubstr("takes 2^52 microseconds"));
  EXPECT_THAT(Validate({1'738, 1, 30 * 24h}), fails);
  EXPECT_THAT(Validate({kExactBound / 1'000 + 1, 1, 1ms}), fails);
  EXPECT_THAT(Validate({3'475, 2, 30 * 24h}), fails);
  EXPECT_THAT(Validate({143, 1, 366 * 24h}), fails);
}

TEST(BucketSpecTest, NoProductWrapsAround) {
  EXPECT_FALSE(Validate({kMost, kMost, 1ms}).ok());
  EXPECT_FALSE(Validate({kMost / 2 + 1, 2, 1ms}).ok());
  EXPECT_FALSE(Validate({std::uint64_t{1} << 32U, std::uint64_t{1} << 32U, 1ms}).ok());
  EXPECT_FALSE(Validate({kExactBound - 1, 1, 30 * 24h}).ok());
}

TEST(BucketSpecTest, ScalesCapacityAndRate) {
  constexpr Fraction kQuarter = {.millionths = 250'000};
  EXPECT_EQ(Scale({100, 100, 1min}, kQuarter), (BucketSpec{25, 100, 4min}));
  EXPECT_EQ(Scale({10, 1, 1s}, {.millionths = 333'333}), (BucketSpec{3, 1, 3'000'004us}));
  // At least a capacity of 1, and the slowest refill.
  EXPECT_EQ(Scale({3, 1, 2s}, kQuarter), (BucketSpec{1, 1, 8s}));
  EXPECT_EQ(Scale({100, 100, 366 * 24h}, kQuarter), (BucketSpec{25, 25, 366 * 24h}));
  EXPECT_EQ(Scale({3, 3, 366 * 24h}, kQuarter), (BucketSpec{1, 1, 366 * 24h}));
}

RC_GTEST_PROP(BucketSpecTest, AScaledSpecIsValidAndNeverAboveTheFraction, ()) {
  __extension__ using Wide = unsigned __int128;
  const BucketSpec spec = *testing::AnyBucketSpec();
  const Fraction fraction = {static_cast<std::uint32_t>(*testing::UpTo(Fraction::kAll))};
  RC_PRE(fraction.millionths <= Fraction::kAll);
  const BucketSpec part = Scale(spec, fraction);
  RC_ASSERT(Validate(part).ok());
  if (fraction.millionths == Fraction::kAll) RC_ASSERT(part == spec);
  RC_ASSERT(part.capacity == 1 ||
            Wide{part.capacity} * Fraction::kAll <= Wide{spec.capacity} * fraction.millionths);
  // rate' <= fraction * rate.
  const auto micros = [](const BucketSpec& of) {
    return static_cast<std::uint64_t>(of.refill_interval.count());
  };
  const bool slowest = part.refill_tokens == 1 && part.refill_interval == kMaxRefillInterval;
  RC_ASSERT(slowest || Wide{part.refill_tokens} * micros(spec) * Fraction::kAll <=
                           Wide{spec.refill_tokens} * micros(part) * fraction.millionths);
  // Rounding costs less than a microsecond of the interval, or a token of the longest one.
  if (part.refill_interval < kMaxRefillInterval) {
    RC_ASSERT(Wide{part.refill_tokens} * micros(spec) * Fraction::kAll >
              Wide{spec.refill_tokens} * (micros(part) - 1) * fraction.millionths);
  }
}

}  // namespace
}  // namespace ratelimiter
