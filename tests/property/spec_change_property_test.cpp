// Buckets whose specs change: waits are exact to the microsecond, and instances with different
// specs together keep the bound of the contract.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "contract/stores.h"
#include "property/generators.h"

namespace ratelimiter::testing {
namespace {

using std::chrono::microseconds;

void MoveTo(StoreUnderTest& under_test, microseconds now) {
  under_test.SetTime(now);
  under_test.Expire();
}

// Small and large, fast and slow, so that full times lie far apart.
rc::Gen<BucketSpec> AnySmallSpec() {
  return rc::gen::map(rc::gen::tuple(rc::gen::inRange<std::uint64_t>(1, 200),
                                     rc::gen::inRange<std::uint64_t>(1, 50),
                                     rc::gen::element<std::int64_t>(1'000, 3'000, 50'000, 1'000'000,
                                                                    60'000'000, 86'400'000'000)),
                      [](const auto& parts) {
                        const auto& [capacity, refill, interval] = parts;
                        return BucketSpec{capacity, refill, microseconds(interval)};
                      });
}

// Buckets, some of them shadows, of which each call picks some, each under one of three specs.
class WaitsWalk {
 public:
  explicit WaitsWalk(StoreUnderTest& under_test) : under_test_(under_test) {}

  void Check() {
    under_test_.Clear();
    for (auto& specs : specs_) specs = {*AnySmallSpec(), *AnySmallSpec(), *AnySmallSpec()};
    for (const Step& step : *rc::gen::container<std::vector<Step>>(30, AnyStep())) {
      now_ = std::min(Next(now_, step, last_), kEnd);
      MoveTo(under_test_, now_);
      const std::vector<Charge> charges = Charges(step);
      if (charges.empty()) continue;
      const Action action = step.cost_random % 16 == 0 ? Action::kRefund
                            : step.take                ? Action::kTake
                                                       : Action::kPeek;
      const Outcome outcome = Transact(under_test_.store(), charges, action);
      RC_ASSERT(outcome.status.ok());
      const std::size_t picked = step.random / 64 % charges.size();
      last_ = outcome.decisions[picked];
      if (action == Action::kPeek || step.random / 1024 % 2 == 0) continue;
      if (action == Action::kTake && step.random / 2048 % 2 == 0) {
        CheckRetry(charges, outcome);
      } else {
        CheckReset(charges[picked], last_);
      }
    }
  }

 private:
  std::vector<Charge> Charges(const Step& step) const {
    static constexpr std::array<const char*, kBuckets> kNames = {"a", "b", "c"};
    std::vector<Charge> charges;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      const std::uint64_t random = step.cost_random >> (16 * i);
      if (random % 3 == 0) continue;
      const BucketSpec& spec = specs_[i][random / 4 % 3];
      Step cost = step;
      cost.cost_random = random / 16;
      charges.push_back(
          {.limit = kNames[i],
           .bucket_key = "{u}",
           .spec = spec,
           .cost = std::max<std::uint64_t>(CostOf(cost, last_.remaining, spec.capacity), 1),
           .shadow = i == kBuckets - 1});
    }
    return charges;
  }

  bool PassesAt(microseconds time, const std::vector<Charge>& charges) {
    MoveTo(under_test_, time);
    return Transact(under_test_.store(), charges, Action::kPeek).allowed;
  }

  // A refused call passes after its longest wait. So does a shadow that refused, by itself.
  void CheckRetry(std::vector<Charge> charges, const Outcome& outcome) {
    microseconds longest{0};
    for (std::size_t i = 0; i < charges.size(); ++i) {
      if (!charges[i].shadow) longest = std::max(longest, outcome.decisions[i].retry_after);
    }
    if (outcome.allowed) {
      longest = outcome.decisions.back().retry_after;
      charges = {charges.back()};
      charges[0].shadow = false;
    }
    if (longest == microseconds(0)) return;
    RC_ASSERT(!PassesAt(now_ + longest - microseconds(1), charges));
    RC_ASSERT(PassesAt(now_ + longest, charges));
    now_ += longest;
  }

  void CheckReset(Charge charge, const Decision& decision) {
    if (decision.reset_after == microseconds(0)) return;
    charge.cost = charge.spec.capacity;
    charge.shadow = false;
    RC_ASSERT(!PassesAt(now_ + decision.reset_after - microseconds(1), {charge}));
    RC_ASSERT(PassesAt(now_ + decision.reset_after, {charge}));
    now_ += decision.reset_after;
  }

  static constexpr std::size_t kBuckets = 3;

  StoreUnderTest& under_test_;
  std::array<std::array<BucketSpec, 3>, kBuckets> specs_{};
  microseconds now_ = kStart;
  Decision last_;
};

TEST(SpecChangeProperty, WaitsOfMemoryAreExactWhateverSpecsFollow) {
  MemoryUnderTest under_test;
  EXPECT_TRUE(rc::check([&] { WaitsWalk(under_test).Check(); }));
}

TEST(SpecChangeProperty, WaitsOfRedisAreExactWhateverSpecsFollow) {
  RedisUnderTest under_test;
  EXPECT_TRUE(rc::check([&] { WaitsWalk(under_test).Check(); }));
}

// Instances with two specs take from one bucket in turns, as during a rollout. Over every
// interval they admit no more than the larger capacity and the larger rate would, and one new
// capacity for each time that both have written a bucket which then was left alone until it was
// full under either.
void CheckAlternating(StoreUnderTest& under_test) {
  const std::array<BucketSpec, 2> specs = {*AnySmallSpec(), *AnySmallSpec()};
  const auto steps = *rc::gen::container<std::vector<Step>>(60, AnyStep());
  under_test.Clear();

  __extension__ using Wide = __int128;
  const Wide one = specs[0].refill_interval.count();
  const Wide other = specs[1].refill_interval.count();
  const Wide token = one * other;  // In parts that both rates are whole numbers of.
  const Wide rate = std::max<Wide>(specs[0].refill_tokens * other, specs[1].refill_tokens * one);
  const Wide capacity = std::max(specs[0].capacity, specs[1].capacity);

  microseconds now = kStart;
  Decision last;
  Wide level = 0;
  microseconds before = kStart;
  // Which of the two wrote the bucket since it was last full, and when it is again.
  std::array<bool, 2> wrote{};
  microseconds full_at = kStart;
  Wide bound = capacity * token;
  for (const Step& step : steps) {
    Step forward = step;
    if (forward.pace == Step::Pace::kBack) forward.pace = Step::Pace::kLittle;
    now = Next(now, forward, last);
    MoveTo(under_test, now);
    if (now >= full_at) {
      if (wrote[0] && wrote[1]) bound += capacity * token;
      wrote = {};
    }
    const BucketSpec& spec = specs[step.random % 2];
    const Charge charge = {.limit = "l",
                           .bucket_key = "{u}",
                           .spec = spec,
                           .cost = CostOf(step, last.remaining, spec.capacity)};
    const Outcome outcome = Transact(under_test.store(), {charge});
    RC_ASSERT(outcome.status.ok());
    last = outcome.decisions[0];
    level = std::max<Wide>(level - (now - before).count() * rate, 0);
    if (outcome.allowed) level += Wide{charge.cost} * token;
    before = now;
    RC_ASSERT(level <= bound);
    if (!outcome.allowed || charge.cost == 0) continue;
    wrote[step.random % 2] = true;
    full_at = std::max(full_at, now + last.reset_after);
  }
}

TEST(AlternatingSpecsProperty, MemoryAdmitsTheLargerAndOneNewCapacityAChange) {
  MemoryUnderTest under_test;
  EXPECT_TRUE(rc::check([&] { CheckAlternating(under_test); }));
}

TEST(AlternatingSpecsProperty, RedisAdmitsTheLargerAndOneNewCapacityAChange) {
  RedisUnderTest under_test;
  EXPECT_TRUE(rc::check([&] { CheckAlternating(under_test); }));
}

}  // namespace
}  // namespace ratelimiter::testing
