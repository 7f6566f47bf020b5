#include "rlctl/send_schedule.h"

#include <chrono>
#include <cstdint>

#include <gtest/gtest.h>

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

const SendSchedule::TimePoint kStart{1000s};

TEST(SendScheduleTest, SpacesCallsEvenly) {
  const SendSchedule schedule(kStart, 4);
  EXPECT_EQ(schedule.At(0), kStart);
  EXPECT_EQ(schedule.At(1), kStart + 250ms);
  EXPECT_EQ(schedule.At(3), kStart + 750ms);
  EXPECT_EQ(schedule.At(4), kStart + 1s);
}

TEST(SendScheduleTest, DoesNotDriftWhereANanosecondDoesNotDivide) {
  const SendSchedule schedule(kStart, 3);
  EXPECT_EQ(schedule.At(1), kStart + 333'333'333ns);
  EXPECT_EQ(schedule.At(2), kStart + 666'666'666ns);
  EXPECT_EQ(schedule.At(3'000'000'000), kStart + 1'000'000'000s);
}

TEST(SendScheduleTest, HoldsADayAtAMillionCallsASecond) {
  const SendSchedule schedule(kStart, 1'000'000);
  const std::uint64_t day = 86'400ULL * 1'000'000;
  EXPECT_EQ(schedule.At(day - 1), kStart + 24h - 1us);
}

}  // namespace
}  // namespace ratelimiter
