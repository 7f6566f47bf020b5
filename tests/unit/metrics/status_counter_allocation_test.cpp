#include <string>

#include <gtest/gtest.h>

#include "ratelimiter/metrics/status_counter.h"
#include "support/allocations.h"

namespace ratelimiter {
namespace {

// Longer than what a std::string holds without allocating.
const std::string kUser(200, 'u');
const std::string kOtherUser(200, 'o');

int AllocationsToCount(RequestCounter& counter, const std::string& user) {
  return testing::AllocationsIn([&] { counter.Count(user, RequestStatus::kAllowed); });
}

TEST(RequestCounterAllocationTest, AUserNotSeenBeforeAllocates) {
  RequestCounter counter(10);
  EXPECT_GT(AllocationsToCount(counter, kUser), 0);
}

TEST(RequestCounterAllocationTest, AUserAlreadySeenAllocatesNothing) {
  RequestCounter counter(10);
  counter.Count(kUser, RequestStatus::kAllowed);
  EXPECT_EQ(AllocationsToCount(counter, kUser), 0);
}

TEST(RequestCounterAllocationTest, AUserBeyondTheBoundAllocatesNothing) {
  RequestCounter counter(1);
  counter.Count(kUser, RequestStatus::kAllowed);
  EXPECT_EQ(AllocationsToCount(counter, kOtherUser), 0);
}

}  // namespace
}  // namespace ratelimiter
