#include "ratelimiter/limiter/limit.h"

#include <gtest/gtest.h>

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

TEST(LimitTest, AcceptsEveryLimitThatIsExact) {
  EXPECT_TRUE(Validate({"l", 5, 1, 2s}).ok());
  EXPECT_TRUE(Validate({"l", 1'000'000, 1'000'000, 24h}).ok());
  EXPECT_TRUE(Validate({"l", 7, 7, 3ms}).ok());
  EXPECT_TRUE(Validate({"l", kExactBound - 1, 1, 1ms}).ok() == false);  // Takes too long to fill.
  EXPECT_TRUE(Validate({"l", (kExactBound - 1) / 1000, 1, 1ms}).ok());
  EXPECT_TRUE(Validate({"l", 1, kExactBound - 1, 1ms}).ok());
}

TEST(LimitTest, RefusesWhatIsNotExactAndNamesIt) {
  EXPECT_EQ(Validate({"l", 0, 1, 2s}).message(),
            "limit \"l\": capacity is 0; accepted: 1 and more");
  EXPECT_EQ(Validate({"l", 1, 0, 2s}).message(),
            "limit \"l\": refill tokens is 0; accepted: 1 and more");
  EXPECT_EQ(Validate({"l", 1, 1, 999us}).message(),
            "limit \"l\": refill interval is 999us; accepted: 1ms to 30d");
  EXPECT_FALSE(Validate({"l", 2, kExactBound / 2, 1ms}).ok());
}

}  // namespace
}  // namespace ratelimiter
