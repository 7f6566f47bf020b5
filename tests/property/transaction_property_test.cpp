// Several buckets decided together, against one model each in rational
// arithmetic; and one bucket whose numbers alternate, against the bound that is
// promised for it.

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "contract/stores.h"
#include "property/generators.h"
#include "support/rational_model.h"

namespace ratelimiter::testing {
namespace {

using std::chrono::microseconds;

constexpr std::size_t kBuckets = 3;

// Random quotas, of which some are shadows, and a random walk: each step decides
// a transaction on some of the buckets.
void CheckTogether(StoreUnderTest& under_test) {
  const std::array<std::string, kBuckets> names = {"a", "b", "c"};
  std::vector<BucketSpec> specs;
  std::vector<RationalModel> models;
  std::vector<Decision> last(kBuckets);
  under_test.Clear();
  for (std::size_t i = 0; i < kBuckets; ++i) {
    specs.push_back(*AnyBucketSpec());
    models.emplace_back(
        NamedSpec{"l", specs[i].capacity, specs[i].refill_tokens, specs[i].refill_interval}, kStart,
        under_test.forgets_full());
  }
  const auto shadows = *rc::gen::container<std::vector<bool>>(
      kBuckets, rc::gen::weightedElement<bool>({{1, true}, {2, false}}));
  const auto steps = *rc::gen::container<std::vector<Step>>(AnyStep());

  microseconds now = kStart;
  for (const Step& step : steps) {
    // Which other buckets a store forgets on the way shows when time steps back.
    if (under_test.forgets_full() && step.pace == Step::Pace::kBack) continue;
    const std::size_t told = step.random % kBuckets;
    now = std::min(Next(now, step, last[told]), kEnd);
    under_test.SetTime(now);

    std::vector<Charge> charges;
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      if ((step.cost_random >> (8 + i)) % 4 == 0) continue;
      Step cost = step;
      cost.cost_random = step.cost_random >> (16 + i);
      places.push_back(i);
      charges.push_back({.limit = names[i],
                         .bucket_key = "{u}",
                         .spec = specs[i],
                         .cost = CostOf(cost, last[i].remaining, specs[i].capacity),
                         .shadow = shadows[i]});
    }
    if (charges.empty()) continue;
    const Outcome outcome =
        Transact(under_test.store(), charges, step.take ? Action::kTake : Action::kPeek);
    RC_ASSERT(outcome.status.ok());

    bool allowed = true;
    for (std::size_t i = 0; i < charges.size(); ++i) {
      if (!charges[i].shadow && !models[places[i]].Has(charges[i].cost, now)) allowed = false;
    }
    RC_ASSERT(outcome.allowed == allowed);
    microseconds longest{0};
    for (std::size_t i = 0; i < charges.size(); ++i) {
      const Ask ask = {.cost = charges[i].cost, .take = step.take};
      last[places[i]] = models[places[i]].Carry(ask, allowed, now);
      RC_ASSERT(outcome.decisions[i] == last[places[i]]);
      if (!charges[i].shadow) longest = std::max(longest, outcome.decisions[i].retry_after);
    }
    // What is told of a whole call that is refused: it passes after the longest
    // wait, and not a microsecond earlier. (A look leaves a bucket that is ahead
    // of time as it is, and so has no promise to make.)
    if (allowed || !step.take || now + longest > kEnd) continue;
    const auto passes_at = [&](microseconds time) {
      under_test.SetTime(time);
      return Transact(under_test.store(), charges, Action::kPeek).allowed;
    };
    RC_ASSERT(!passes_at(now + longest - microseconds(1)));
    RC_ASSERT(passes_at(now + longest));
    // Time goes on from there.
    now += longest;
  }
}

TEST(TransactionProperty, MemoryDecidesTogetherAsTheModels) {
  MemoryUnderTest under_test;
  EXPECT_TRUE(rc::check([&] { CheckTogether(under_test); }));
}

TEST(TransactionProperty, RedisDecidesTogetherAsTheModels) {
  RedisUnderTest under_test;
  EXPECT_TRUE(rc::check([&] { CheckTogether(under_test); }));
}

// Instances of two configurations take from one bucket in turns, as during a
// rollout. Over every interval they admit no more than the larger of the numbers
// would, and one new capacity for each time that both have written a bucket which
// then was left alone until it was full under either.
template <typename Expire>
void CheckAlternating(StoreUnderTest& under_test, const Expire& expire) {
  const auto any = rc::gen::map(
      rc::gen::tuple(rc::gen::inRange<std::uint64_t>(1, 200),
                     rc::gen::inRange<std::uint64_t>(1, 50),
                     rc::gen::element<std::int64_t>(1'000, 3'000, 50'000, 1'000'000, 60'000'000)),
      [](const auto& numbers) {
        const auto& [capacity, refill, interval] = numbers;
        return BucketSpec{capacity, refill, microseconds(interval)};
      });
  const std::array<BucketSpec, 2> specs = {*any, *any};
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
    under_test.SetTime(now);
    expire(now);
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

TEST(AlternatingNumbersProperty, MemoryAdmitsTheLargerAndOneNewCapacityAChange) {
  MemoryUnderTest under_test;
  EXPECT_TRUE(rc::check([&] { CheckAlternating(under_test, [](microseconds) {}); }));
}

TEST(AlternatingNumbersProperty, RedisAdmitsTheLargerAndOneNewCapacityAChange) {
  RedisUnderTest under_test;
  // Redis expires keys by its own clock, not by the test's: so the test does.
  const auto expire = [&](microseconds now) {
    const RedisReply expires = under_test.server().Run({"PEXPIRETIME", "rl:1:l:{u}"});
    if (expires.integer() > 0 && std::chrono::milliseconds(expires.integer()) <= now) {
      under_test.server().Run({"DEL", "rl:1:l:{u}"});
    }
  };
  EXPECT_TRUE(rc::check([&] { CheckAlternating(under_test, expire); }));
}

}  // namespace
}  // namespace ratelimiter::testing
