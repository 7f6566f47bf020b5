// The contract of several buckets decided together, checked on every store.

#include <array>
#include <atomic>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "contract/stores.h"
#include "support/threads.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;

using std::chrono::microseconds;

constexpr BucketSpec kSmall = {5, 1, 2s};
constexpr BucketSpec kLarge = {100, 1, 1s};

Charge On(std::string_view limit, const BucketSpec& spec, std::uint64_t cost = 1,
          bool shadow = false) {
  return {.limit = limit, .bucket_key = "{u}", .spec = spec, .cost = cost, .shadow = shadow};
}

template <typename Store>
class TransactionContract : public StoreContract<Store> {
 protected:
  Outcome Take(const std::vector<Charge>& charges) { return Transact(this->store(), charges); }
  Outcome Refund(const std::vector<Charge>& charges) {
    return Transact(this->store(), charges, Action::kRefund);
  }
  Decision Peek(Charge charge) {
    return Transact(this->store(), {charge}, Action::kPeek).decisions[0];
  }
  std::uint64_t Left(std::string_view limit, const BucketSpec& spec) {
    return Peek(On(limit, spec, 0)).remaining;
  }
};

TYPED_TEST_SUITE(TransactionContract, Stores);

TYPED_TEST(TransactionContract, AllPayIfAllHaveTheTokens) {
  const Outcome outcome = this->Take({On("a", kSmall, 2), On("b", kLarge, 30)});
  EXPECT_TRUE(outcome.allowed);
  EXPECT_EQ(outcome.decisions[0],
            (Decision{.allowed = true, .remaining = 3, .retry_after = 0us, .reset_after = 4s}));
  EXPECT_EQ(outcome.decisions[1],
            (Decision{.allowed = true, .remaining = 70, .retry_after = 0us, .reset_after = 30s}));
}

TYPED_TEST(TransactionContract, NonePaysIfOneLacksTokens) {
  this->Take({On("a", kSmall, 4)});
  const Outcome outcome = this->Take({On("b", kLarge, 30), On("a", kSmall, 2), On("c", kLarge)});
  EXPECT_FALSE(outcome.allowed);
  EXPECT_EQ(outcome.decisions[0], (Decision{.allowed = true, .remaining = 100}));
  EXPECT_EQ(outcome.decisions[1],
            (Decision{.allowed = false, .remaining = 1, .retry_after = 2s, .reset_after = 8s}));
  EXPECT_EQ(outcome.decisions[2], (Decision{.allowed = true, .remaining = 100}));
  EXPECT_EQ(this->Left("a", kSmall), 1U);
  EXPECT_EQ(this->Left("b", kLarge), 100U);
  EXPECT_EQ(this->Left("c", kLarge), 100U);
}

TYPED_TEST(TransactionContract, PassesWhenTheLongestWaitIsOverAndNotAMicrosecondEarlier) {
  const BucketSpec odd = {7, 3, 7ms};
  this->Take({On("a", kSmall, 5), On("b", odd, 7)});
  this->At(1us);
  const std::vector<Charge> charges = {On("a", kSmall, 1), On("b", odd, 6), On("c", kLarge)};
  const Outcome refused = this->Take(charges);
  const microseconds longest =
      std::max(refused.decisions[0].retry_after, refused.decisions[1].retry_after);
  EXPECT_EQ(longest, 2s - 1us);
  this->At(1us + longest - 1us);
  EXPECT_FALSE(this->Take(charges).allowed);
  this->At(1us + longest);
  EXPECT_TRUE(this->Take(charges).allowed);
}

TYPED_TEST(TransactionContract, AShadowRefusesNothingAndPaysIfItCan) {
  const std::vector<Charge> charges = {On("shadow", kSmall, 3, true), On("real", kLarge)};
  Outcome outcome = this->Take(charges);
  EXPECT_TRUE(outcome.allowed);
  EXPECT_EQ(outcome.decisions[0].remaining, 2U);
  outcome = this->Take(charges);
  EXPECT_TRUE(outcome.allowed);
  EXPECT_EQ(outcome.decisions[0],
            (Decision{.allowed = false, .remaining = 2, .retry_after = 2s, .reset_after = 6s}));
  EXPECT_EQ(this->Left("shadow", kSmall), 2U);
  EXPECT_EQ(this->Left("real", kLarge), 98U);
}

TYPED_TEST(TransactionContract, AShadowPaysNothingForACallThatIsRefused) {
  this->Take({On("real", kSmall, 5)});
  const Outcome outcome = this->Take({On("shadow", kSmall, 1, true), On("real", kSmall)});
  EXPECT_FALSE(outcome.allowed);
  EXPECT_TRUE(outcome.decisions[0].allowed);
  EXPECT_EQ(this->Left("shadow", kSmall), 5U);
}

TYPED_TEST(TransactionContract, AloneAShadowIsAllowed) {
  const std::vector<Charge> charges = {On("shadow", kSmall, 5, true)};
  EXPECT_TRUE(this->Take(charges).allowed);
  const Outcome outcome = this->Take(charges);
  EXPECT_TRUE(outcome.allowed);
  EXPECT_FALSE(outcome.decisions[0].allowed);
}

TYPED_TEST(TransactionContract, ARefusedCallSetsBackBucketsThatAreAheadOfTime) {
  this->Take({On("a", kSmall, 5), On("b", kSmall, 2)});
  this->At(-1h);
  EXPECT_FALSE(this->Take({On("a", kSmall), On("b", kSmall)}).allowed);
  this->At(-1h + 2s);
  const Outcome outcome = this->Take({On("a", kSmall), On("b", kSmall)});
  EXPECT_TRUE(outcome.allowed);
  EXPECT_EQ(outcome.decisions[1].remaining, 3U);
}

TYPED_TEST(TransactionContract, ARefundFillsUpToTheCapacity) {
  this->Take({On("a", kSmall, 4), On("b", kLarge, 50)});
  this->At(1s);
  const Outcome outcome =
      this->Refund({On("a", kSmall, 2), On("b", kLarge, 100), On("c", kSmall, 1)});
  EXPECT_TRUE(outcome.allowed);
  EXPECT_EQ(outcome.decisions[0],
            (Decision{.allowed = true, .remaining = 3, .retry_after = 0us, .reset_after = 3s}));
  EXPECT_EQ(outcome.decisions[1], (Decision{.allowed = true, .remaining = 100}));
  EXPECT_EQ(outcome.decisions[2], (Decision{.allowed = true, .remaining = 5}));
  EXPECT_EQ(this->Left("a", kSmall), 3U);
  EXPECT_EQ(this->Left("b", kLarge), 100U);
  EXPECT_EQ(this->Peek(On("a", kSmall, 4)).retry_after, 1s);
}

TYPED_TEST(TransactionContract, TransactionsOfOneCallAreDecidedInOrder) {
  const std::vector<Charge> three = {On("a", kSmall, 3)};
  const std::vector<Charge> one = {On("a", kSmall, 1)};
  std::array<Decision, 4> decisions{};
  std::vector<Transaction> transactions;
  for (std::size_t i = 0; i < decisions.size(); ++i) {
    transactions.push_back({.charges = i % 2 == 0 ? three : one, .decisions = {&decisions[i], 1}});
  }
  this->store().Decide(transactions, Deadline::max());
  std::vector<std::pair<bool, std::uint64_t>> answers;
  for (std::size_t i = 0; i < decisions.size(); ++i) {
    EXPECT_TRUE(transactions[i].status.ok());
    answers.emplace_back(decisions[i].allowed, decisions[i].remaining);
  }
  EXPECT_THAT(answers, ::testing::ElementsAre(std::pair(true, 2), std::pair(true, 1),
                                              std::pair(false, 1), std::pair(true, 0)));
}

TYPED_TEST(TransactionContract, AThousandTransactionsAnswerAsAThousandCallsWould) {
  constexpr std::size_t kTransactions = 1'000;
  std::mt19937 random(1);
  std::vector<std::string> bucket_keys;
  for (int i = 0; i < 10; ++i) bucket_keys.push_back("{user-" + std::to_string(i) + "}");
  const BucketSpec spec = {60, 1, 1h};
  std::vector<Charge> charges;
  for (std::size_t i = 0; i < kTransactions; ++i) {
    charges.push_back({.limit = "l",
                       .bucket_key = bucket_keys[random() % 10],
                       .spec = spec,
                       .cost = random() % 4});
  }
  std::vector<Decision> one_by_one;
  for (const Charge& charge : charges) {
    one_by_one.push_back(Transact(this->store(), {charge}).decisions[0]);
  }
  this->under_test_->Clear();
  this->At(0us);
  std::vector<Decision> together(kTransactions);
  std::vector<Transaction> transactions;
  for (std::size_t i = 0; i < kTransactions; ++i) {
    transactions.push_back({.charges = {&charges[i], 1}, .decisions = {&together[i], 1}});
  }
  this->store().Decide(transactions, Deadline::max());
  for (const Transaction& transaction : transactions) EXPECT_TRUE(transaction.status.ok());
  EXPECT_EQ(together, one_by_one);
}

// Threads take from overlapping sets of buckets. Every token is taken once, by an allowed
// transaction, or is still there.
TYPED_TEST(TransactionContract, NoTokenIsLostOrTakenTwiceAtOnce) {
  constexpr std::size_t kThreads = 64;
  constexpr int kCalls = 50;
  constexpr std::size_t kBuckets = 8;
  const BucketSpec spec = {300, 1, 24h * 30};
  const std::array<std::string, kBuckets> names = {"a", "b", "c", "d", "e", "f", "g", "h"};
  std::array<std::atomic<std::uint64_t>, kBuckets> taken{};
  std::atomic<int> allowed = 0;
  std::atomic<int> refused = 0;
  OnThreads(kThreads, [&](std::size_t thread) {
    std::mt19937 random(static_cast<std::mt19937::result_type>(thread));
    for (int call = 0; call < kCalls; ++call) {
      std::vector<Charge> charges;
      std::vector<std::size_t> places;
      const std::size_t first = random();
      for (std::size_t i = 0; i < 1 + random() % 4; ++i) {
        places.push_back((first + i * 3) % kBuckets);
        charges.push_back(On(names[places.back()], spec, 1 + random() % 3));
      }
      const Outcome outcome = Transact(this->store(), charges);
      ASSERT_TRUE(outcome.status.ok()) << outcome.status;
      ++(outcome.allowed ? allowed : refused);
      if (!outcome.allowed) continue;
      for (std::size_t i = 0; i < charges.size(); ++i) taken[places[i]] += charges[i].cost;
    }
  });
  EXPECT_GT(allowed, 0);
  EXPECT_GT(refused, 0);
  for (std::size_t i = 0; i < kBuckets; ++i) {
    EXPECT_EQ(this->Left(names[i], spec), spec.capacity - taken[i]) << names[i];
  }
}

}  // namespace
}  // namespace ratelimiter::testing
