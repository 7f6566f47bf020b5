#include <chrono>
#include <cstddef>
#include <string>

#include <gtest/gtest.h>

#include "ratelimiter/metrics/metrics.h"
#include "support/allocations.h"

namespace ratelimiter {
namespace {

using testing::AllocationsIn;

// Longer than what a std::string holds without allocating.
std::string UserOf(char first) { return first + std::string(200, 'u'); }

int AllocationsToCount(RequestCounter& counter, const std::string& user) {
  return AllocationsIn([&] { counter.Count(user, RequestStatus::kAllowed); });
}

TEST(RequestCounterAllocationTest, AUserNotSeenBeforeAllocates) {
  RequestCounter counter(10);
  EXPECT_GT(AllocationsToCount(counter, UserOf('a')), 0);
}

TEST(RequestCounterAllocationTest, AUserAlreadySeenAllocatesNothing) {
  RequestCounter counter(10);
  counter.Count(UserOf('a'), RequestStatus::kAllowed);
  const std::string user = UserOf('a');
  EXPECT_EQ(AllocationsToCount(counter, user), 0);
}

TEST(RequestCounterAllocationTest, AUserBeyondTheBoundAllocatesNothing) {
  RequestCounter counter(1);
  counter.Count(UserOf('a'), RequestStatus::kAllowed);
  const std::string user = UserOf('b');
  EXPECT_EQ(AllocationsToCount(counter, user), 0);
}

// Memory is as flat as that: whoever comes, nothing more is allocated.
TEST(MetricsAllocationTest, NewUsersWithoutEndAllocateNothing) {
  Metrics metrics(1, "test");
  metrics.CountRequest("first", RequestStatus::kAllowed);
  std::string user = UserOf('a');
  EXPECT_EQ(AllocationsIn([&] {
              for (int i = 0; i < 100'000; ++i) {
                user[1] = static_cast<char>('a' + i % 26);
                user[2] = static_cast<char>('a' + i / 26 % 26);
                user[3] = static_cast<char>('a' + i / 26 / 26 % 26);
                user[4] = static_cast<char>('a' + i / 26 / 26 / 26);
                metrics.CountRequest(user, RequestStatus::kAllowed);
                metrics.CountRequest(user, RequestStatus::kDenied);
                metrics.CountRequest(user, RequestStatus::kError);
              }
            }),
            0);
}

TEST(MetricsAllocationTest, ACallAllocatesNothing) {
  Metrics metrics(1, "test");
  metrics.decisions().Show("default");
  EXPECT_EQ(AllocationsIn([&] {
              ObservedCall call(metrics.calls(), CallMethod::kAllowRequest);
              metrics.decisions().Count("default", LimitStatus::kAllowed);
              metrics.CountShed();
              metrics.CountDegraded(FailMode::kOpen);
              metrics.redis().Observe({.latency = std::chrono::milliseconds(1), .calls = 3});
              metrics.redis().CountError(RedisError::kTimeout);
              metrics.redis().CountDenyCacheHit();
            }),
            0);
}

}  // namespace
}  // namespace ratelimiter
