#include "ratelimiter/limiter/limiter.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/status.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using testing::FailsWith;

const Limit kLimit = {"default", 5, 1, 2s};
const Deadline kDeadline = Deadline(1h);

// Answers what it is told to, and keeps what it was asked.
class FakeStore final : public TokenBucketStore {
 public:
  absl::StatusOr<Decision> Decide(const Limit& limit, std::string_view subject, Charge charge,
                                  Deadline deadline) override {
    ++calls;
    asked_limit = limit.name;
    asked_subject = subject;
    asked_charge = charge;
    asked_deadline = deadline;
    return answer;
  }
  absl::Status Check(Deadline /*deadline*/) override { return absl::OkStatus(); }

  absl::StatusOr<Decision> answer = Decision{.allowed = true, .remaining = 5};
  int calls = 0;
  std::string asked_limit;
  std::string asked_subject;
  Charge asked_charge;
  Deadline asked_deadline;
};

class LimiterTest : public ::testing::Test {
 protected:
  FakeStore store_;
  Limiter limiter_{kLimit, store_};
};

TEST_F(LimiterTest, AsksTheStoreWhatItWasAsked) {
  ASSERT_TRUE(limiter_.Allow({.user_id = "user", .cost = 3}, kDeadline).ok());
  EXPECT_EQ(store_.asked_limit, "default");
  EXPECT_EQ(store_.asked_subject, "user");
  EXPECT_EQ(store_.asked_charge.cost, 3U);
  EXPECT_TRUE(store_.asked_charge.take);
  EXPECT_EQ(store_.asked_deadline, kDeadline);
}

TEST_F(LimiterTest, AnswersTheStoresDecision) {
  const Decision refusal = {.allowed = false, .remaining = 2, .retry_after = 1s, .reset_after = 5s};
  store_.answer = refusal;
  EXPECT_EQ(*limiter_.Allow({.user_id = "user"}, kDeadline), refusal);
}

TEST_F(LimiterTest, ThePathHasNoBucketOfItsOwn) {
  ASSERT_TRUE(limiter_.Allow({.user_id = "user", .path = "/a"}, kDeadline).ok());
  EXPECT_EQ(store_.asked_subject, "user");
}

TEST_F(LimiterTest, ADryRunIsDecidedAtItsCostAndTakesNothing) {
  ASSERT_TRUE(limiter_.Allow({.user_id = "user", .cost = 3, .dry_run = true}, kDeadline).ok());
  EXPECT_EQ(store_.asked_charge.cost, 3U);
  EXPECT_FALSE(store_.asked_charge.take);
}

TEST_F(LimiterTest, ALookTakesNothing) {
  ASSERT_TRUE(limiter_.Allow({.user_id = "user", .cost = 0}, kDeadline).ok());
  EXPECT_EQ(store_.asked_charge.cost, 0U);
  EXPECT_FALSE(store_.asked_charge.take);
}

TEST_F(LimiterTest, OnlyARequestThatTakesIsCharged) {
  EXPECT_TRUE((Request{.cost = 1}).charges());
  EXPECT_FALSE((Request{.cost = 0}).charges());
  EXPECT_FALSE((Request{.cost = 1, .dry_run = true}).charges());
}

TEST_F(LimiterTest, ACostOfTheWholeCapacityIsAsked) {
  EXPECT_TRUE(limiter_.Allow({.user_id = "user", .cost = 5}, kDeadline).ok());
}

TEST_F(LimiterTest, ACostAboveTheCapacityIsRefusedUnasked) {
  const std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
  for (const bool dry_run : {false, true}) {
    EXPECT_THAT(limiter_.Allow({.user_id = "user", .cost = 6, .dry_run = dry_run}, kDeadline),
                FailsWith(absl::StatusCode::kInvalidArgument,
                          "cost is 6, above the capacity of limit \"default\", so it could never "
                          "pass; accepted: 0 to 5"));
    EXPECT_THAT(limiter_.Allow({.user_id = "user", .cost = most, .dry_run = dry_run}, kDeadline),
                FailsWith(absl::StatusCode::kInvalidArgument, ::testing::_));
  }
  EXPECT_EQ(store_.calls, 0);
}

TEST_F(LimiterTest, UsageIsTheCapacityLessWhatIsLeft) {
  for (const std::uint64_t remaining : {0U, 2U, 5U}) {
    store_.answer = Decision{.allowed = true, .remaining = remaining};
    const auto usage = limiter_.GetUsage("user", kDeadline);
    EXPECT_EQ(usage->used, 5 - remaining);
    EXPECT_EQ(usage->allowed, 5U);
  }
}

TEST_F(LimiterTest, UsageChangesNothing) {
  ASSERT_TRUE(limiter_.GetUsage("user", kDeadline).ok());
  EXPECT_EQ(store_.asked_subject, "user");
  EXPECT_EQ(store_.asked_charge.cost, 0U);
  EXPECT_FALSE(store_.asked_charge.take);
  EXPECT_EQ(store_.asked_deadline, kDeadline);
}

TEST_F(LimiterTest, AnErrorOfTheStoreIsNoDecision) {
  store_.answer = absl::UnavailableError("the store is away");
  const auto fails = FailsWith(absl::StatusCode::kUnavailable, "the store is away");
  EXPECT_THAT(limiter_.Allow({.user_id = "user"}, kDeadline), fails);
  EXPECT_THAT(limiter_.GetUsage("user", kDeadline), fails);
}

}  // namespace
}  // namespace ratelimiter
