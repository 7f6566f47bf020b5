// The contract of a bucket whose spec changes, as in a reload or a rollout, checked on every store.

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "contract/stores.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;
using std::chrono::microseconds;

constexpr BucketSpec kDefault = {5, 1, 2s};
constexpr BucketSpec kFast = {5, 5, 1s};
constexpr BucketSpec kSlow = {100, 100, 24h * 30};
constexpr microseconds kSlowToken = microseconds(24h * 30) / 100;

Charge On(const BucketSpec& spec, std::uint64_t cost = 1, std::string_view limit = "limit") {
  return {.limit = limit, .bucket_key = "{u}", .spec = spec, .cost = cost};
}

Charge ShadowOn(const BucketSpec& spec, std::uint64_t cost = 1, std::string_view limit = "shadow") {
  Charge charge = On(spec, cost, limit);
  charge.shadow = true;
  return charge;
}

template <typename Store>
class SpecChangeContract : public StoreContract<Store> {
 protected:
  Decision Take(const Charge& charge) { return Transact(this->store(), {charge}).decisions[0]; }
  Outcome Take(const std::vector<Charge>& charges) { return Transact(this->store(), charges); }
  Decision Refund(const Charge& charge) {
    return Transact(this->store(), {charge}, Action::kRefund).decisions[0];
  }
  Decision Peek(const Charge& charge) {
    return Transact(this->store(), {charge}, Action::kPeek).decisions[0];
  }
  std::uint64_t Left(const BucketSpec& spec, std::string_view limit = "limit") {
    return Peek(On(spec, 0, limit)).remaining;
  }

  // Both waits of `decision`, made at `now`, end on time and not a microsecond earlier.
  // Time goes on from their end.
  void ExpectExactWaits(const Charge& charge, const Decision& decision, microseconds now) {
    if (!decision.allowed) {
      this->At(now + decision.retry_after - 1us);
      EXPECT_FALSE(Peek(charge).allowed);
      this->At(now + decision.retry_after);
      EXPECT_TRUE(Peek(charge).allowed);
    }
    if (decision.reset_after > decision.retry_after) {
      this->At(now + decision.reset_after - 1us);
      EXPECT_LT(Left(charge.spec, charge.limit), charge.spec.capacity);
    }
    this->At(now + decision.reset_after);
    EXPECT_EQ(Left(charge.spec, charge.limit), charge.spec.capacity);
  }
};

TYPED_TEST_SUITE(SpecChangeContract, Stores);

TYPED_TEST(SpecChangeContract, KeepsWholeTokensAndDropsTheFraction) {
  this->Take(On(kDefault, 5));
  this->At(3s);
  this->Take(On(kDefault));  // 0 left, and half of the next.
  const BucketSpec slower = {5, 1, 24h};
  EXPECT_EQ(this->Peek(On(slower)).retry_after, 24h);
  EXPECT_EQ(this->Peek(On(kDefault)).retry_after, 1s);
  this->At(12s);
  EXPECT_EQ(this->Left({2, 1, 2s}), 2U);
}

TYPED_TEST(SpecChangeContract, AFractionDroppedWithItsSpecDoesNotComeBack) {
  this->Take(On(kDefault, 5));
  this->At(3s);
  this->Take(On(kDefault));  // 0 left, and half of the next.
  this->At(6s);
  EXPECT_EQ(this->Take(On({5, 1, 3s})).remaining, 0U);
  EXPECT_EQ(this->Peek(On(kDefault)).retry_after, 2s);
}

TYPED_TEST(SpecChangeContract, ALoweredCapacityCutsWhatIsThere) {
  this->Take(On(kDefault));
  const BucketSpec smaller = {3, 1, 2s};
  EXPECT_EQ(this->Peek(On(smaller)), (Decision{.allowed = true, .remaining = 3}));
  this->At(-1h);
  EXPECT_EQ(this->Take(On(smaller)).remaining, 2U);
}

TYPED_TEST(SpecChangeContract, ALimitMadeSlowerStaysEmpty) {
  this->Take(On(kFast, 5));
  const Decision refused = this->Take(On(kSlow));
  EXPECT_EQ(refused.retry_after, kSlowToken);
  this->At(1200ms);
  EXPECT_EQ(this->Take(On(kSlow)).retry_after, refused.retry_after - 1200ms);
  this->At(refused.retry_after);
  EXPECT_EQ(this->Take(On(kSlow)).remaining, 0U);
}

TYPED_TEST(SpecChangeContract, WaitsAreExactFromEverySpecToEveryOther) {
  const std::vector<BucketSpec> specs = {kDefault,     kFast,           kSlow,
                                         {1, 1, 1ms},  {1'000, 1, 1ms}, {1'000, 7, 3s},
                                         {7, 3, 10ms}, {3, 1, 24h},     {100, 1'000, 1s}};
  for (const BucketSpec& before : specs) {
    for (const BucketSpec& after : specs) {
      for (const std::uint64_t cost : {std::uint64_t{1}, after.capacity / 2 + 1, after.capacity}) {
        SCOPED_TRACE(::testing::Message()
                     << before.capacity << " by " << before.refill_interval.count() << " us, then "
                     << after.capacity << " by " << after.refill_interval.count() << " us, cost "
                     << cost);
        const Charge charge = On(after, cost);
        this->under_test_->Clear();
        this->At(0us);
        this->Take(On(before, before.capacity));
        this->At(400us);
        this->ExpectExactWaits(charge, this->Take(charge), 400us);
      }
    }
  }
}

TYPED_TEST(SpecChangeContract, ABucketThatCouldPayForARefusedCallKeepsItsResetTime) {
  this->Take({On(kFast, 4, "paying"), On(kDefault, 5, "refusing")});
  const Outcome refused = this->Take({On(kSlow, 1, "paying"), On(kDefault, 1, "refusing")});
  EXPECT_FALSE(refused.allowed);
  EXPECT_TRUE(refused.decisions[0].allowed);
  this->ExpectExactWaits(On(kSlow, 1, "paying"), refused.decisions[0], 0us);
}

TYPED_TEST(SpecChangeContract, AShadowsWaitsAreExact) {
  this->Take({ShadowOn(kFast, 5), On(kDefault, 1)});
  for (const std::uint64_t cost : {std::uint64_t{1}, std::uint64_t{5}}) {
    // Allowed, then refused by the other limit.
    const Outcome outcome = this->Take({ShadowOn(kSlow), On(kDefault, cost)});
    EXPECT_EQ(outcome.allowed, cost == 1);
    EXPECT_FALSE(outcome.decisions[0].allowed);
    this->At(1s);
    EXPECT_EQ(this->Left(kSlow, "shadow"), 0U);
    this->At(0us);
    if (cost == 5) this->ExpectExactWaits(ShadowOn(kSlow), outcome.decisions[0], 0us);
  }
}

TYPED_TEST(SpecChangeContract, ARefundsResetTimeIsExact) {
  this->Take(On(kFast, 5));
  this->ExpectExactWaits(On(kSlow), this->Refund(On(kSlow, 2)), 0us);
}

TYPED_TEST(SpecChangeContract, RefusalsUnderOneSpecDoNotDelayTheOther) {
  const BucketSpec slow = {1, 1, 1h};
  const BucketSpec fast = {1, 1, 1s};
  this->Take(On(fast));
  for (microseconds now = 0us; now < 1s; now += 50ms) {
    this->At(now);
    EXPECT_EQ(this->Take(On(fast)).retry_after, 1s - now);
    EXPECT_EQ(this->Take(On(slow)).retry_after, 1h - now);
  }
  this->At(1s);
  EXPECT_TRUE(this->Take(On(fast)).allowed);
}

TYPED_TEST(SpecChangeContract, APeekExtendsNothingSoThatItsWaitsAreUpperBounds) {
  this->Take(On(kFast, 5));
  EXPECT_EQ(this->Peek(On(kSlow)).retry_after, kSlowToken);
  this->At(1s + 1ms);  // Keys expire by the millisecond.
  EXPECT_EQ(this->Left(kSlow), 100U);
}

TYPED_TEST(SpecChangeContract, TimeSteppingBackKeepsTheWaitsOfASlowerSpec) {
  const BucketSpec slow = {5, 1, 1h};
  this->Take(On(slow, 5));
  this->At(-1min);
  EXPECT_FALSE(this->Take(On(kFast)).allowed);
  this->At(-1min + 2s);
  EXPECT_EQ(this->Left(slow), 0U);
  const Decision refused = this->Take(On(slow));
  this->ExpectExactWaits(On(slow), refused, -1min + 2s);
}

}  // namespace
}  // namespace ratelimiter::testing
