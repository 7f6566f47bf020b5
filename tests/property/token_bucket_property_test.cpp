// The token bucket contract against a model in rational arithmetic, over random
// limits from all that are accepted, random costs and random times.

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "contract/stores.h"
#include "support/rational_model.h"

namespace ratelimiter::testing {
namespace {

using std::chrono::microseconds;

// A number up to `most` whose length in bits is uniform, so that small, middling
// and huge ones all come.
rc::Gen<std::uint64_t> UpTo(std::uint64_t most) {
  return rc::gen::exec([most] {
    const int bits = *rc::gen::inRange(1, 64);
    const std::uint64_t number = *rc::gen::noShrink(rc::gen::arbitrary<std::uint64_t>());
    return 1 + (number >> static_cast<unsigned>(64 - bits)) % most;
  });
}

rc::Gen<NamedQuota> AnyLimit() {
  const auto interval =
      rc::gen::oneOf(UpTo(static_cast<std::uint64_t>(kMaxRefillInterval.count())),
                     rc::gen::element<std::uint64_t>(1'000, 3'000, 1'000'000, 2'000'000, 60'000'000,
                                                     86'400'000'000, 2'592'000'000'000));
  return rc::gen::suchThat(
      rc::gen::oneOf(rc::gen::element(NamedQuota{"l", 5, 1, std::chrono::seconds(2)},
                                      NamedQuota{"l", 1'000'000, 1'000'000, std::chrono::hours(24)},
                                      NamedQuota{"l", 7, 7, std::chrono::milliseconds(3)}),
                     rc::gen::map(rc::gen::tuple(UpTo(kExactBound), UpTo(kExactBound), interval),
                                  [](const auto& numbers) {
                                    const auto& [capacity, refill, micros] = numbers;
                                    return NamedQuota{"l", capacity,
                                                 1 + refill % (kExactBound / capacity),
                                                 microseconds(static_cast<std::int64_t>(micros))};
                                  })),
      [](const NamedQuota& limit) { return Validate(limit.quota()).ok(); });
}

struct Step {
  enum class Pace { kLittle, kAsTold, kOneShort, kAny, kBack } pace;
  std::uint64_t random;
  std::uint64_t cost_random;
  bool take;
};

rc::Gen<Step> AnyStep() {
  return rc::gen::map(
      rc::gen::tuple(rc::gen::weightedElement<Step::Pace>({{4, Step::Pace::kLittle},
                                                           {4, Step::Pace::kAsTold},
                                                           {4, Step::Pace::kOneShort},
                                                           {2, Step::Pace::kAny},
                                                           {1, Step::Pace::kBack}}),
                     rc::gen::arbitrary<std::uint64_t>(), rc::gen::arbitrary<std::uint64_t>(),
                     rc::gen::weightedElement<bool>({{4, true}, {1, false}})),
      [](const auto& parts) {
        const auto& [pace, random, cost_random, take] = parts;
        return Step{pace, random, cost_random, take};
      });
}

microseconds Below(std::uint64_t random, microseconds bound) {
  return microseconds(
      static_cast<std::int64_t>(random % (static_cast<std::uint64_t>(bound.count()) + 1)));
}

// Where the clock goes next: little by little, to just where a refusal said the
// call would pass, one microsecond before that, far ahead, or back.
microseconds Next(microseconds now, const Step& step, const Decision& last) {
  constexpr microseconds kFar{std::int64_t{1} << 40U};  // Twelve days.
  switch (step.pace) {
    case Step::Pace::kLittle:
      return now + Below(step.random, microseconds(5'000));
    case Step::Pace::kAsTold:
      return now + last.retry_after;
    case Step::Pace::kOneShort:
      return now + std::max(last.retry_after - microseconds(1), microseconds(0));
    case Step::Pace::kAny:
      return now + Below(step.random, std::min(last.reset_after + microseconds(1), kFar));
    case Step::Pace::kBack:
      return now - Below(step.random, kFar);
  }
  std::abort();
}

// Whether what is admitted stays within capacity + floor(t * rate) over every
// interval that ends now: the worst of them is a leaky bucket's level, which
// every admission raises and time lowers.
class AdmissionBound {
 public:
  AdmissionBound(NamedQuota limit, microseconds now) : limit_(std::move(limit)), time_(now) {}

  bool Holds(microseconds now, std::uint64_t admitted) {
    const Wide elapsed = std::max<Wide>((now - time_).count(), 0);
    level_ = std::max<Wide>(level_ - elapsed * limit_.refill_tokens, 0);
    level_ += Wide{admitted} * limit_.refill_interval.count();
    time_ = now;
    return level_ <= Wide{limit_.capacity} * limit_.refill_interval.count();
  }

 private:
  __extension__ using Wide = __int128;

  const NamedQuota limit_;
  microseconds time_;
  Wide level_ = 0;
};

class TokenBucketProperty {
 public:
  explicit TokenBucketProperty(StoreUnderTest& under_test) : under_test_(under_test) {}

  // One random limit and a random walk on one bucket.
  void Check() {
    const NamedQuota limit = *AnyLimit();
    const auto steps = *rc::gen::container<std::vector<Step>>(AnyStep());
    RC_LOG() << "capacity " << limit.capacity << ", " << limit.refill_tokens << " per "
             << limit.refill_interval.count() << " us\n";
    under_test_.Clear();
    RationalModel model(limit, kStart, under_test_.forgets_full());
    AdmissionBound bound(limit, kStart);
    microseconds now = kStart;
    Decision last;
    for (const Step& step : steps) {
      now = std::min(Next(now, step, last), kEnd);
      under_test_.SetTime(now);
      // Costs near what is left, where a decision turns, and any other.
      const std::uint64_t near = last.remaining + step.cost_random % 3;
      const std::uint64_t cost =
          (step.random % 2 == 0 ? near : step.cost_random) % (limit.capacity + 1);
      const Ask charge = {.cost = cost, .take = step.take};
      const auto decision = Decide(under_test_.store(), limit, "user", charge, Deadline::max());
      RC_ASSERT(decision.ok());
      last = model.Decide(charge, now);
      RC_LOG() << "at " << (now - kStart).count() << " cost " << cost << (step.take ? "" : " look")
               << ": allowed " << last.allowed << " remaining " << last.remaining << '\n';
      RC_ASSERT(decision->allowed == last.allowed);
      RC_ASSERT(decision->remaining == last.remaining);
      RC_ASSERT(decision->retry_after == last.retry_after);
      RC_ASSERT(decision->reset_after == last.reset_after);
      RC_ASSERT(bound.Holds(now, decision->allowed && charge.take ? cost : 0));
      AfterStep(now, last);
    }
  }

  virtual ~TokenBucketProperty() = default;

 protected:
  virtual void AfterStep(microseconds /*now*/, const Decision& /*last*/) {}

 private:
  StoreUnderTest& under_test_;
};

// On Redis also: no key goes before its bucket is full.
class RedisProperty final : public TokenBucketProperty {
 public:
  explicit RedisProperty(RedisUnderTest& under_test)
      : TokenBucketProperty(under_test), server_(under_test.server()) {}

 protected:
  void AfterStep(microseconds now, const Decision& last) override {
    if (last.reset_after == microseconds(0)) return;
    const Reply expires = server_.Run({"PEXPIRETIME", "rl:1:l:{user}"});
    const microseconds expires_at = std::chrono::milliseconds(expires->integer);
    RC_ASSERT(expires_at >= now + last.reset_after);
  }

 private:
  RedisServerProcess& server_;
};

TEST(TokenBucketProperty, MemoryDecidesAsTheModel) {
  MemoryUnderTest under_test;
  EXPECT_TRUE(rc::check([&] { TokenBucketProperty(under_test).Check(); }));
}

TEST(TokenBucketProperty, RedisDecidesAsTheModelAndNoKeyExpiresEarly) {
  RedisUnderTest under_test;
  EXPECT_TRUE(rc::check([&] { RedisProperty(under_test).Check(); }));
}

}  // namespace
}  // namespace ratelimiter::testing
