#include "server/rate_limit_headers.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "ratelimiter/limiter/limit_set.h"
#include "ratelimiter/memory/memory_token_bucket.h"
#include "support/manual_clock.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using std::chrono::microseconds;

// A user of one limit.
class RateLimitHeadersTest : public ::testing::Test {
 protected:
  void SetLimit(const BucketSpec& spec) {
    std::vector<Limit> limits;
    limits.push_back({.name = "user", .spec = spec});
    limits.push_back({.name = "shadow", .spec = {1, 1, 1h}, .shadow = true});
    limiter_.SetLimits(std::make_shared<LimitSet>(std::move(limits), HashBy::kUser));
  }
  Answer Send(std::uint64_t cost, bool dry_run = false) {
    return *limiter_.Allow({.user_id = "u", .cost = cost, .dry_run = dry_run}, Deadline::max());
  }
  std::string State(std::uint64_t cost = 1) { return RateLimitHeadersOf(Send(cost)).state; }

  testing::ManualClock clock_{1h};
  MemoryTokenBucket store_{100, clock_};
  Limiter limiter_{std::make_shared<LimitSet>(std::vector<Limit>{}, HashBy::kUser), store_};
};

TEST_F(RateLimitHeadersTest, TheWindowEndsWithTheNextToken) {
  SetLimit({5, 1, 2s});
  EXPECT_EQ(RateLimitHeadersOf(Send(0)).policy, R"("user";q=5;w=10)");
  EXPECT_EQ(State(), R"("user";r=4;t=2)");
  EXPECT_EQ(State(), R"("user";r=3;t=2)");
  EXPECT_EQ(State(3), R"("user";r=0;t=2)");
  clock_.Advance(1'500ms);
  EXPECT_EQ(State(), R"("user";r=0;t=1)");
  clock_.Advance(1'500ms);
  EXPECT_EQ(State(0), R"("user";r=1;t=1)");
}

TEST_F(RateLimitHeadersTest, TheWindowOfAFullBucketIsATokensTime) {
  SetLimit({5, 1, 2s});
  EXPECT_EQ(State(0), R"("user";r=5;t=2)");
  SetLimit({300, 30, 1min});
  EXPECT_EQ(State(0), R"("user";r=300;t=2)");
  SetLimit({1'000, 1'000, 1s});
  EXPECT_EQ(State(0), R"("user";r=1000;t=1)");
}

TEST_F(RateLimitHeadersTest, ALimitOfCapacityZeroHasNoWindow) {
  SetLimit({0, 0, 0s});
  const RateLimitHeaders headers = RateLimitHeadersOf(Send(1));
  EXPECT_EQ(headers.policy, R"("user";q=0)");
  EXPECT_EQ(headers.state, R"("user";r=0)");
}

// At the end of the window, up to the rounding, one token more is there, and before it none.
TEST_F(RateLimitHeadersTest, NoMoreThanRemainsCanBeUsedWithinTheWindow) {
  for (const BucketSpec& spec : {BucketSpec{5, 1, 2s}, BucketSpec{7, 3, 10s},
                                 BucketSpec{11, 7, 1min}, BucketSpec{1'000'000, 1'000'000, 24h},
                                 BucketSpec{3, 2, 7'777'777us}, BucketSpec{100, 1, 30 * 24h}}) {
    SetLimit(spec);
    for (int i = 0; i < 200; ++i) {
      clock_.Advance(
          microseconds(i * std::int64_t{15'485'863} % (3 * spec.refill_interval.count())));
      const Answer answer = Send(1 + static_cast<std::uint64_t>(i) % spec.capacity);
      const std::string state = RateLimitHeadersOf(answer).state;
      const Decision& decision = answer.states[0].decision;
      const std::uint64_t remaining = decision.remaining;
      const auto window = std::chrono::seconds(std::stoll(state.substr(state.find("t=") + 2)));
      SCOPED_TRACE(fmt::format("{} tokens every {} us: {}", spec.refill_tokens,
                               spec.refill_interval.count(), state));
      if (!answer.allowed) {
        EXPECT_GE(std::chrono::ceil<std::chrono::seconds>(decision.retry_after), window);
      }
      if (remaining == spec.capacity) continue;
      // Nothing is taken in between.
      const microseconds now = clock_.Now();
      clock_.Set(now + window - 1s);
      EXPECT_EQ(Send(0).states[0].decision.remaining, remaining);
      clock_.Set(now + window);
      EXPECT_GT(Send(0).states[0].decision.remaining, remaining);
      clock_.Set(now);
    }
  }
}

}  // namespace
}  // namespace ratelimiter
