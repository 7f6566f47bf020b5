#include "ratelimiter/service/concurrency_limiter.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "support/threads.h"

namespace ratelimiter {
namespace {

using std::chrono::milliseconds;

TEST(ConcurrencyLimiterTest, GrantsAsManyPermitsAsAllowed) {
  ConcurrencyLimiter limiter(2);
  const auto first = limiter.Acquire();
  const auto second = limiter.Acquire();
  EXPECT_TRUE(first);
  EXPECT_TRUE(second);
  EXPECT_FALSE(limiter.Acquire());
}

TEST(ConcurrencyLimiterTest, ADestroyedPermitIsFree) {
  ConcurrencyLimiter limiter(1);
  std::optional permit = limiter.Acquire();
  permit.reset();
  EXPECT_TRUE(limiter.Acquire());
}

TEST(ConcurrencyLimiterTest, ARefusalReleasesNothing) {
  ConcurrencyLimiter limiter(1);
  const auto permit = limiter.Acquire();
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(limiter.Acquire());
}

TEST(ConcurrencyLimiterTest, AMovedPermitIsReleasedOnce) {
  ConcurrencyLimiter limiter(2);
  const auto stays = limiter.Acquire();
  {
    auto permit = limiter.Acquire();
    const auto moved = std::move(permit);
    EXPECT_TRUE(moved);
  }
  EXPECT_TRUE(limiter.Acquire());
}

TEST(ConcurrencyLimiterTest, ARefusalSaysWhyAndWhenToRetry) {
  ConcurrencyLimiter limiter(400);
  const Overload overload = limiter.Refuse();
  EXPECT_EQ(overload.status,
            absl::ResourceExhaustedError("overloaded: 400 calls in flight (MAX_IN_FLIGHT); request "
                                         "not processed; retry in about 2 s"));
}

TEST(ConcurrencyLimiterTest, SpreadsRetryDelaysEvenly) {
  constexpr std::size_t kDelays = 256;
  ConcurrencyLimiter limiter(1);
  std::set<milliseconds> delays;
  for (std::size_t i = 0; i < kDelays; ++i) delays.insert(limiter.Refuse().retry_delay);
  EXPECT_EQ(delays.size(), kDelays);
  EXPECT_EQ(*delays.begin(), milliseconds(1000));
  EXPECT_EQ(*delays.rbegin(), milliseconds(3000));
}

TEST(ConcurrencyLimiterTest, ThreadsNeverHoldMoreThanAllowed) {
  constexpr int kPermits = 3;
  ConcurrencyLimiter limiter(kPermits);
  std::atomic<int> held = 0;
  std::atomic<int> most = 0;
  testing::OnThreads(8, [&](std::size_t /*thread*/) {
    for (int call = 0; call < 10'000; ++call) {
      const auto permit = limiter.Acquire();
      if (!permit) continue;
      const int now = ++held;
      int seen = most;
      while (now > seen && !most.compare_exchange_weak(seen, now)) {
      }
      --held;
    }
  });
  EXPECT_LE(most, kPermits);
  std::vector<ConcurrencyLimiter::Permit> permits;
  for (int i = 0; i < kPermits; ++i) permits.push_back(limiter.Acquire());
  EXPECT_TRUE(permits.back());
  EXPECT_FALSE(limiter.Acquire());
}

}  // namespace
}  // namespace ratelimiter
