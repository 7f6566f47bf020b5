#include "ratelimiter/server/concurrency_limiter.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "support/threads.h"

namespace ratelimiter {
namespace {

using std::chrono::milliseconds;

google::rpc::Status DetailsOf(const grpc::Status& status) {
  google::rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  return details;
}

milliseconds WaitOf(const grpc::Status& status) {
  const google::rpc::Status details = DetailsOf(status);
  google::rpc::RetryInfo retry;
  EXPECT_TRUE(details.details_size() == 1 && details.details(0).UnpackTo(&retry));
  return std::chrono::seconds(retry.retry_delay().seconds()) +
         std::chrono::duration_cast<milliseconds>(
             std::chrono::nanoseconds(retry.retry_delay().nanos()));
}

TEST(ConcurrencyLimiterTest, HasAsManyPlacesAsItIsTold) {
  ConcurrencyLimiter limiter(2);
  const auto first = limiter.Acquire();
  const auto second = limiter.Acquire();
  EXPECT_TRUE(first);
  EXPECT_TRUE(second);
  EXPECT_FALSE(limiter.Acquire());
}

TEST(ConcurrencyLimiterTest, APlaceIsGivenBackAtTheEndOfItsCall) {
  ConcurrencyLimiter limiter(1);
  std::optional place = limiter.Acquire();
  place.reset();
  EXPECT_TRUE(limiter.Acquire());
}

TEST(ConcurrencyLimiterTest, WhoIsRefusedGivesNoPlaceBack) {
  ConcurrencyLimiter limiter(1);
  const auto permit = limiter.Acquire();
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(limiter.Acquire());
}

TEST(ConcurrencyLimiterTest, APlaceMovedIsGivenBackOnce) {
  ConcurrencyLimiter limiter(2);
  const auto stays = limiter.Acquire();
  {
    auto place = limiter.Acquire();
    const auto moved = std::move(place);
    EXPECT_TRUE(moved);
  }
  EXPECT_TRUE(limiter.Acquire());
}

TEST(ConcurrencyLimiterTest, ARefusalSaysWhyAndWhenToTryAgain) {
  ConcurrencyLimiter limiter(400);
  const grpc::Status& refusal = limiter.Refusal();
  EXPECT_EQ(refusal.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refusal.error_message(), ::testing::HasSubstr("400 calls are in flight"));
  const google::rpc::Status details = DetailsOf(refusal);
  EXPECT_EQ(details.code(), 8);
  EXPECT_EQ(details.message(), refusal.error_message());
  ASSERT_EQ(details.details_size(), 1);
  EXPECT_EQ(details.details(0).type_url(), "type.googleapis.com/google.rpc.RetryInfo");
}

TEST(ConcurrencyLimiterTest, WaitsAreSpreadEvenly) {
  constexpr std::size_t kWaits = 256;
  ConcurrencyLimiter limiter(1);
  std::set<milliseconds> waits;
  for (std::size_t i = 0; i < kWaits; ++i) waits.insert(WaitOf(limiter.Refusal()));
  EXPECT_EQ(waits.size(), kWaits);
  EXPECT_EQ(*waits.begin(), milliseconds(1000));
  EXPECT_EQ(*waits.rbegin(), milliseconds(3000));
}

TEST(ConcurrencyLimiterTest, ThreadsNeverHoldMoreThanThereAre) {
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
