#include "ratelimiter/memory/memory_token_bucket.h"

#include <string>

#include <gtest/gtest.h>

#include "support/manual_clock.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using testing::ManualClock;

const Limit kLimit = {"default", 5, 1, 2s};

TEST(MemoryTokenBucketTest, TakesTheBurstThenRefusesWithTheExactWait) {
  ManualClock clock{1000s};
  MemoryTokenBucket store(10, clock);
  for (std::uint64_t left = 5; left > 0; --left) {
    const auto decision = store.Decide(kLimit, "user", {}, Deadline::max());
    ASSERT_TRUE(decision.ok());
    EXPECT_TRUE(decision->allowed);
    EXPECT_EQ(decision->remaining, left - 1);
  }
  clock.Advance(500ms);
  const auto refused = store.Decide(kLimit, "user", {}, Deadline::max());
  ASSERT_TRUE(refused.ok());
  EXPECT_EQ(*refused, (Decision{.allowed = false,
                                .remaining = 0,
                                .retry_after = 1500ms,
                                .reset_after = 9500ms}));
  clock.Advance(1500ms - 1us);
  EXPECT_FALSE(store.Decide(kLimit, "user", {}, Deadline::max())->allowed);
  clock.Advance(1us);
  EXPECT_TRUE(store.Decide(kLimit, "user", {}, Deadline::max())->allowed);
}

TEST(MemoryTokenBucketTest, NeverForgetsABucketInUseAndNeverGrowsPastTheBound) {
  ManualClock clock{1000s};
  MemoryTokenBucket store(3, clock);
  for (const char* user : {"a", "b", "c"}) {
    EXPECT_TRUE(store.Decide(kLimit, user, {}, Deadline::max()).ok());
  }
  const auto rejected = store.Decide(kLimit, "d", {}, Deadline::max());
  EXPECT_EQ(rejected.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(store.rejected(), 1U);
  EXPECT_EQ(store.buckets(), 3U);
  EXPECT_EQ(store.Decide(kLimit, "a", {}, Deadline::max())->remaining, 3U);
  clock.Advance(2s);  // b and c are full again, a is not.
  EXPECT_TRUE(store.Decide(kLimit, "d", {}, Deadline::max()).ok());
  EXPECT_TRUE(store.Decide(kLimit, "e", {}, Deadline::max()).ok());
  EXPECT_EQ(store.Decide(kLimit, "a", {.cost = 0}, Deadline::max())->remaining, 4U);
  EXPECT_LE(store.buckets(), 3U);
}

}  // namespace
}  // namespace ratelimiter
