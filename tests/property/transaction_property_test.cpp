// Several buckets decided together, against one model each in rational arithmetic.

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

// A random walk over buckets with random specs, some of them shadows. Each step decides a
// transaction on some of the buckets.
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
    // After a step back the result depends on the full buckets that the store has forgotten.
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
    // A refused call passes after the longest wait, and not a microsecond earlier. (Not after a
    // peek: it does not set back a bucket that is ahead of time.)
    if (allowed || !step.take || now + longest > kEnd) continue;
    const auto passes_at = [&](microseconds time) {
      under_test.SetTime(time);
      return Transact(under_test.store(), charges, Action::kPeek).allowed;
    };
    RC_ASSERT(!passes_at(now + longest - microseconds(1)));
    RC_ASSERT(passes_at(now + longest));
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

}  // namespace
}  // namespace ratelimiter::testing
