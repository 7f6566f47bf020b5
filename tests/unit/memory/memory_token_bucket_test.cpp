#include "ratelimiter/memory/memory_token_bucket.h"

#include <algorithm>
#include <atomic>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/decide.h"
#include "support/manual_clock.h"
#include "support/status.h"
#include "support/threads.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using testing::Ask;
using testing::Decide;
using testing::FailsWith;
using testing::ManualClock;
using testing::NamedSpec;
using testing::OnThreads;
using testing::Succeeds;

const NamedSpec kLimit = {"default", 5, 1, 2s};
constexpr Ask kPeek = {.cost = 0, .take = false};

class MemoryTokenBucketTest : public ::testing::Test {
 protected:
  static std::string User(std::size_t number) { return "user-" + std::to_string(number); }

  ManualClock clock_{1000s};
};

TEST_F(MemoryTokenBucketTest, TakesTheBurstThenRefusesWithTheExactWait) {
  MemoryTokenBucket store(10, clock_);
  for (std::uint64_t left = 5; left > 0; --left) {
    const auto decision = Decide(store, kLimit, "user", {}, Deadline::max());
    ASSERT_THAT(decision, Succeeds());
    EXPECT_TRUE(decision->allowed);
    EXPECT_EQ(decision->remaining, left - 1);
  }
  clock_.Advance(500ms);
  const auto refused = Decide(store, kLimit, "user", {}, Deadline::max());
  ASSERT_THAT(refused, Succeeds());
  EXPECT_EQ(
      *refused,
      (Decision{.allowed = false, .remaining = 0, .retry_after = 1500ms, .reset_after = 9500ms}));
  clock_.Advance(1500ms - 1us);
  EXPECT_FALSE(Decide(store, kLimit, "user", {}, Deadline::max())->allowed);
  clock_.Advance(1us);
  EXPECT_TRUE(Decide(store, kLimit, "user", {}, Deadline::max())->allowed);
}

TEST_F(MemoryTokenBucketTest, ANewBucketIsRejectedWhileAllAreInUse) {
  MemoryTokenBucket store(3, clock_);
  for (const char* user : {"a", "b", "c"}) {
    ASSERT_THAT(Decide(store, kLimit, user, {}, Deadline::max()), Succeeds());
  }
  EXPECT_THAT(Decide(store, kLimit, "d", {}, Deadline::max()),
              FailsWith(absl::StatusCode::kResourceExhausted,
                        "all 3 buckets are in use; raise MEMORY_MAX_BUCKETS"));
  EXPECT_EQ(store.rejected(), 1U);
  EXPECT_EQ(store.buckets(), 3U);
}

TEST_F(MemoryTokenBucketTest, ExistingBucketsAreServedWhileAllAreInUse) {
  MemoryTokenBucket store(1, clock_);
  ASSERT_THAT(Decide(store, kLimit, "a", {}, Deadline::max()), Succeeds());
  ASSERT_FALSE(Decide(store, kLimit, "b", {}, Deadline::max()).ok());
  EXPECT_EQ(Decide(store, kLimit, "a", {}, Deadline::max())->remaining, 3U);
}

TEST_F(MemoryTokenBucketTest, AShadowWithoutRoomFailsNoTransaction) {
  MemoryTokenBucket store(1, clock_);
  const Charge shadow = {
      .limit = "trial", .bucket_key = "{a}", .spec = kLimit.spec(), .shadow = true};
  const Charge charges[] = {{.limit = "default", .bucket_key = "{a}", .spec = kLimit.spec()},
                            shadow};
  Decision decisions[2];
  Transaction transaction = {.charges = charges, .decisions = decisions};
  for (std::uint64_t left = 5; left > 0; --left) {
    store.Decide({&transaction, 1}, Deadline::max());
    ASSERT_THAT(transaction.status, Succeeds());
    EXPECT_TRUE(transaction.allowed());
    EXPECT_EQ(decisions[0].remaining, left - 1);
  }
  EXPECT_EQ(store.buckets(), 1U);
  EXPECT_EQ(store.rejected(), 0U);
}

TEST_F(MemoryTokenBucketTest, ABucketFilledByARefundIsForgotten) {
  MemoryTokenBucket store(1, clock_);
  const Charge charge = {.limit = "default", .bucket_key = "{a}", .spec = kLimit.spec(), .cost = 5};
  Decision decision;
  Transaction transaction = {.charges = {&charge, 1}, .decisions = {&decision, 1}};
  store.Decide({&transaction, 1}, Deadline::max());
  ASSERT_FALSE(Decide(store, kLimit, "b", {}, Deadline::max()).ok());
  transaction.action = Action::kRefund;
  store.Decide({&transaction, 1}, Deadline::max());
  EXPECT_EQ(decision.remaining, 5U);
  EXPECT_THAT(Decide(store, kLimit, "b", {}, Deadline::max()), Succeeds());
}

TEST_F(MemoryTokenBucketTest, APeekNeedsNoRoom) {
  MemoryTokenBucket store(1, clock_);
  ASSERT_THAT(Decide(store, kLimit, "a", {}, Deadline::max()), Succeeds());
  EXPECT_EQ(Decide(store, kLimit, "b", kPeek, Deadline::max())->remaining, 5U);
  EXPECT_EQ(store.buckets(), 1U);
  EXPECT_EQ(store.rejected(), 0U);
}

TEST_F(MemoryTokenBucketTest, FullBucketsMakeRoomAndUsedOnesStay) {
  MemoryTokenBucket store(3, clock_);
  ASSERT_THAT(Decide(store, kLimit, "used", {.cost = 2}, Deadline::max()), Succeeds());
  for (const char* user : {"full 1", "full 2"}) {
    ASSERT_THAT(Decide(store, kLimit, user, {}, Deadline::max()), Succeeds());
  }
  clock_.Advance(2s);
  for (const char* user : {"new 1", "new 2"}) {
    EXPECT_THAT(Decide(store, kLimit, user, {}, Deadline::max()), Succeeds());
  }
  EXPECT_FALSE(Decide(store, kLimit, "new 3", {}, Deadline::max()).ok());
  EXPECT_EQ(Decide(store, kLimit, "used", kPeek, Deadline::max())->remaining, 4U);
}

TEST_F(MemoryTokenBucketTest, AnotherChargeKeepsABucketInUseLonger) {
  MemoryTokenBucket store(1, clock_);
  ASSERT_THAT(Decide(store, kLimit, "a", {}, Deadline::max()), Succeeds());
  clock_.Advance(1s);
  ASSERT_THAT(Decide(store, kLimit, "a", {}, Deadline::max()), Succeeds());
  clock_.Advance(3s - 1us);
  EXPECT_FALSE(Decide(store, kLimit, "b", {}, Deadline::max()).ok());
  clock_.Advance(1us);
  EXPECT_THAT(Decide(store, kLimit, "b", {}, Deadline::max()), Succeeds());
}

TEST_F(MemoryTokenBucketTest, TheOnlyFullBucketIsFound) {
  constexpr std::size_t kBuckets = 2'000;
  MemoryTokenBucket store(kBuckets, clock_);
  const auto pay = [&](std::size_t user) {
    return Decide(store, kLimit, User(user), {}, Deadline::max());
  };
  for (std::size_t user = 0; user < kBuckets; ++user) ASSERT_THAT(pay(user), Succeeds());
  clock_.Advance(1s);
  for (std::size_t user = 1; user < kBuckets; ++user) ASSERT_THAT(pay(user), Succeeds());
  clock_.Advance(1s);
  EXPECT_THAT(pay(kBuckets), Succeeds());
  EXPECT_EQ(pay(kBuckets + 1).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(store.buckets(), kBuckets);
}

TEST_F(MemoryTokenBucketTest, ExactlyTheFullBucketsMakeRoom) {
  constexpr std::size_t kUsers = 5'000;
  MemoryTokenBucket store(kUsers, clock_);
  std::vector<std::uint64_t> taken(kUsers);
  std::minstd_rand random;
  for (std::size_t i = 0; i < 3 * kUsers; ++i) {
    const std::size_t user = i < kUsers ? i : random() % kUsers;
    const std::uint64_t cost = 1 + random() % 2;
    const auto decision = Decide(store, kLimit, User(user), {.cost = cost}, Deadline::max());
    ASSERT_THAT(decision, Succeeds());
    if (decision->allowed) taken[user] += cost;
  }
  clock_.Advance(4s);
  const auto full = static_cast<std::size_t>(
      std::count_if(taken.begin(), taken.end(), [](std::uint64_t tokens) { return tokens <= 2; }));
  std::size_t found_room = 0;
  while (Decide(store, kLimit, User(kUsers + found_room), {}, Deadline::max()).ok()) ++found_room;
  EXPECT_EQ(found_room, full);
}

TEST_F(MemoryTokenBucketTest, FullBucketsAreForgottenWhileOthersAreCharged) {
  MemoryTokenBucket store(10'000, clock_);
  const auto use = [&](std::size_t first, std::size_t last) {
    for (std::size_t user = first; user < last; ++user) {
      ASSERT_THAT(Decide(store, kLimit, User(user), {}, Deadline::max()), Succeeds());
    }
  };
  use(0, 5'000);
  EXPECT_EQ(store.buckets(), 5'000U);
  clock_.Advance(2s);
  use(5'000, 10'000);
  EXPECT_LT(store.buckets(), 6'000U);
}

TEST_F(MemoryTokenBucketTest, IsAlwaysReady) {
  EXPECT_THAT(MemoryTokenBucket(1, clock_).Check(Deadline::max()), Succeeds());
}

TEST_F(MemoryTokenBucketTest, ThreadsNeverExceedTheBoundOrLoseABucket) {
  constexpr std::size_t kThreads = 8;
  constexpr std::size_t kUsers = 2'000;
  constexpr std::size_t kMaxBuckets = 500;
  MemoryTokenBucket store(kMaxBuckets, clock_);
  std::vector<std::atomic<std::uint64_t>> taken(kUsers);
  std::atomic<std::uint64_t> refused_room = 0;
  OnThreads(kThreads, [&](std::size_t thread) {
    for (std::size_t i = 0; i < kUsers; ++i) {
      // Pairs of threads that use the same user at the same time.
      const std::size_t user = (i + thread / 2 * 100) % kUsers;
      const auto decision = Decide(store, kLimit, User(user), {}, Deadline::max());
      if (!decision.ok()) ++refused_room;
      if (decision.ok() && decision->allowed) ++taken[user];
      EXPECT_LE(store.buckets(), kMaxBuckets);
    }
  });
  std::size_t used = 0;
  for (std::size_t user = 0; user < kUsers; ++user) {
    EXPECT_EQ(Decide(store, kLimit, User(user), kPeek, Deadline::max())->remaining,
              5 - taken[user]);
    if (taken[user] > 0) ++used;
  }
  EXPECT_EQ(used, kMaxBuckets);
  EXPECT_EQ(store.buckets(), kMaxBuckets);
  EXPECT_EQ(store.rejected(), refused_room);
}

TEST_F(MemoryTokenBucketTest, ThreadsTakeEveryTokenOnce) {
  const NamedSpec limit = {"default", 1'000, 1, 2s};
  MemoryTokenBucket store(1, clock_);
  std::atomic<int> allowed = 0;
  OnThreads(8, [&](std::size_t /*thread*/) {
    for (int i = 0; i < 500; ++i) {
      const auto decision = Decide(store, limit, "user", {}, Deadline::max());
      if (decision.ok() && decision->allowed) ++allowed;
    }
  });
  EXPECT_EQ(allowed, 1'000);
}

}  // namespace
}  // namespace ratelimiter
