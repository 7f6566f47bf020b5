// The token bucket contract, checked on every store.

#include <string>

#include <gtest/gtest.h>

#include "contract/stores.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;
using std::chrono::microseconds;

const NamedSpec kLimit = {"default", 5, 1, 2s};

template <typename Store>
class TokenBucketContract : public StoreContract<Store> {
 protected:
  Decision Take(const NamedSpec& limit, std::uint64_t cost = 1,
                const std::string& bucket_key = "user") {
    return AskStore(limit, {.cost = cost}, bucket_key);
  }
  Decision Peek(const NamedSpec& limit, std::uint64_t cost = 0,
                const std::string& bucket_key = "user") {
    return AskStore(limit, {.cost = cost, .take = false}, bucket_key);
  }
  Decision AskStore(const NamedSpec& limit, Ask charge, const std::string& bucket_key) {
    const auto decision = Decide(this->store(), limit, bucket_key, charge, Deadline::max());
    EXPECT_TRUE(decision.ok()) << decision.status();
    return decision.value_or(Decision{});
  }
};

TYPED_TEST_SUITE(TokenBucketContract, Stores);

TYPED_TEST(TokenBucketContract, ANewBucketIsFull) {
  EXPECT_EQ(this->Peek(kLimit),
            (Decision{.allowed = true, .remaining = 5, .retry_after = 0us, .reset_after = 0us}));
}

TYPED_TEST(TokenBucketContract, TakesTheBurstThenRefuses) {
  for (std::uint64_t left = 5; left > 0; --left) {
    EXPECT_EQ(this->Take(kLimit), (Decision{.allowed = true,
                                            .remaining = left - 1,
                                            .retry_after = 0us,
                                            .reset_after = (6 - left) * 2s}));
  }
  EXPECT_EQ(this->Take(kLimit),
            (Decision{.allowed = false, .remaining = 0, .retry_after = 2s, .reset_after = 10s}));
}

TYPED_TEST(TokenBucketContract, ARefusalTakesNothing) {
  this->Take(kLimit, 4);
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(this->Take(kLimit, 2).allowed);
  EXPECT_TRUE(this->Take(kLimit, 1).allowed);
}

TYPED_TEST(TokenBucketContract, PeeksAndDryRunsChangeNothing) {
  this->Take(kLimit, 3);
  EXPECT_FALSE(this->Peek(kLimit, 3).allowed);
  EXPECT_TRUE(this->Peek(kLimit, 2).allowed);
  EXPECT_EQ(this->Take(kLimit, 0).remaining, 2U);
  EXPECT_EQ(this->Peek(kLimit).remaining, 2U);
}

TYPED_TEST(TokenBucketContract, RetryAfterIsExactToTheMicrosecond) {
  for (const NamedSpec& limit :
       {kLimit, NamedSpec{"sevenths", 9, 7, 3ms}, NamedSpec{"thirds", 4, 3, 1s},
        NamedSpec{"daily", 1'000'000, 1'000'000, 24h}}) {
    this->At(0us);
    this->Take(limit, limit.capacity);
    this->At(1us);
    for (const std::uint64_t cost : {std::uint64_t{1}, limit.capacity / 2, limit.capacity}) {
      const microseconds wait = this->Peek(limit, cost).retry_after;
      this->At(1us + wait - 1us);
      EXPECT_FALSE(this->Peek(limit, cost).allowed) << limit.name << " " << cost;
      this->At(1us + wait);
      EXPECT_TRUE(this->Peek(limit, cost).allowed) << limit.name << " " << cost;
      this->At(1us);
    }
  }
}

TYPED_TEST(TokenBucketContract, RefillsWithoutDrift) {
  const NamedSpec limit = {"sevenths", 7, 7, 3ms};
  this->Take(limit, 7);
  std::uint64_t admitted = 0;
  for (microseconds now = 1us; now <= 30ms; now += 1us) {
    this->At(now);
    if (now.count() % 11 == 0 && this->Take(limit).allowed) ++admitted;
  }
  this->At(30ms);
  admitted += this->Peek(limit).remaining;
  EXPECT_EQ(admitted, 70U);
}

TYPED_TEST(TokenBucketContract, RefillsUpToCapacity) {
  this->Take(kLimit, 5);
  this->At(10s - 1us);
  EXPECT_EQ(this->Peek(kLimit).remaining, 4U);
  this->At(24h * 365 * 50);
  EXPECT_EQ(this->Peek(kLimit).remaining, 5U);
}

TYPED_TEST(TokenBucketContract, TimeSteppingBackEarnsNothingAndLocksNobodyOut) {
  this->Take(kLimit, 5);
  this->At(-1h);
  EXPECT_EQ(this->Take(kLimit).retry_after, 2s);
  this->At(-1h + 2s);
  EXPECT_TRUE(this->Take(kLimit).allowed);
  EXPECT_FALSE(this->Take(kLimit).allowed);
}

TYPED_TEST(TokenBucketContract, APeekDoesNotSetBackABucketThatIsAheadOfTime) {
  this->Take(kLimit, 5);
  this->At(-1h);
  EXPECT_FALSE(this->Peek(kLimit, 1).allowed);
  this->At(2s);
  EXPECT_TRUE(this->Take(kLimit).allowed);
}

// In doubles, the quotient of elapsed time and interval is one token too high for the first limit,
// which lacks one part of that token, and one too low for the second, which has just earned it.
TYPED_TEST(TokenBucketContract, CountsTokensThatDoublesWouldMiscount) {
  const NamedSpec above = {"above", 369'783, 1'428'011, 499'674'844'831us};
  this->Take(above, above.capacity);
  this->At(129'390'644'152us);
  EXPECT_EQ(this->Peek(above).remaining, 369'782U);

  const NamedSpec below = {"below", 3'965'590, 3'965'589, 879'796'454'264us};
  this->At(0us);
  this->Take(below, below.capacity);
  this->At(below.refill_interval);
  EXPECT_EQ(this->Peek(below).remaining, 3'965'589U);
}

TYPED_TEST(TokenBucketContract, BucketKeysAndLimitsHaveBucketsOfTheirOwn) {
  const NamedSpec other = {"other", 5, 1, 2s};
  for (const std::string& bucket_key :
       std::initializer_list<std::string>{"a", "a}", "a%7D", "{a}", "a}:other", {"a\0b", 3}}) {
    EXPECT_EQ(this->Take(kLimit, 5, bucket_key).remaining, 0U) << bucket_key;
  }
  EXPECT_EQ(this->Peek(other, 0, "a").remaining, 5U);
  EXPECT_EQ(this->Peek(kLimit, 0, "b").remaining, 5U);
}

TYPED_TEST(TokenBucketContract, IsExactAtTheEdgesOfItsRange) {
  for (const NamedSpec& limit :
       {NamedSpec{"most tokens", (kExactBound - 1) / 1'000, 1'000, 1ms},
        NamedSpec{"slowest", 1'737, 1, 24h * 30}, NamedSpec{"fastest", 1, kExactBound - 1, 1ms}}) {
    ASSERT_TRUE(Validate(limit.spec()).ok()) << limit.name;
    this->At(0us);
    EXPECT_TRUE(this->Take(limit, limit.capacity).allowed) << limit.name;
    const microseconds full = this->Peek(limit).reset_after;
    this->At(full - 1us);
    EXPECT_LT(this->Peek(limit).remaining, limit.capacity) << limit.name;
    this->At(full);
    EXPECT_EQ(this->Peek(limit).remaining, limit.capacity) << limit.name;
  }
}

}  // namespace
}  // namespace ratelimiter::testing
