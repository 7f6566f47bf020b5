// The token bucket contract against a model in rational arithmetic, with random valid limits, costs
// and times.

#include <algorithm>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "contract/stores.h"
#include "property/generators.h"
#include "support/rational_model.h"

namespace ratelimiter::testing {
namespace {

using std::chrono::microseconds;

// Checks that admissions stay within capacity + floor(t * rate) over every interval that ends now.
// The worst interval is the level of a leaky bucket, which admissions raise and time lowers.
class AdmissionBound {
 public:
  AdmissionBound(NamedSpec limit, microseconds now) : limit_(std::move(limit)), time_(now) {}

  bool Holds(microseconds now, std::uint64_t admitted) {
    const Wide elapsed = std::max<Wide>((now - time_).count(), 0);
    level_ = std::max<Wide>(level_ - elapsed * limit_.refill_tokens, 0);
    level_ += Wide{admitted} * limit_.refill_interval.count();
    time_ = now;
    return level_ <= Wide{limit_.capacity} * limit_.refill_interval.count();
  }

 private:
  __extension__ using Wide = __int128;

  const NamedSpec limit_;
  microseconds time_;
  Wide level_ = 0;
};

class TokenBucketProperty {
 public:
  explicit TokenBucketProperty(StoreUnderTest& under_test) : under_test_(under_test) {}

  // One random limit and a random walk on one bucket.
  void Check() {
    const BucketSpec spec = *AnyBucketSpec();
    const NamedSpec limit = {"l", spec.capacity, spec.refill_tokens, spec.refill_interval};
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
      const std::uint64_t cost = CostOf(step, last.remaining, limit.capacity);
      const Ask charge = {.cost = cost, .take = step.take};
      const auto decision = Decide(under_test_.store(), limit, "user", charge, Deadline::max());
      RC_ASSERT(decision.ok());
      last = model.Decide(charge, now);
      RC_LOG() << "at " << (now - kStart).count() << " cost " << cost << (step.take ? "" : " peek")
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

// Also checks that no key expires before its bucket is full.
class RedisProperty final : public TokenBucketProperty {
 public:
  explicit RedisProperty(RedisUnderTest& under_test)
      : TokenBucketProperty(under_test), server_(under_test.server()) {}

 protected:
  void AfterStep(microseconds now, const Decision& last) override {
    if (last.reset_after == microseconds(0)) return;
    const RedisReply expires = server_.Run({"PEXPIRETIME", "rl:1:l:{user}"});
    const microseconds expires_at = std::chrono::milliseconds(expires.integer());
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
