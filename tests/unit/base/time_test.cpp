#include "ratelimiter/base/time.h"

#include <chrono>

#include <gtest/gtest.h>

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;
using std::chrono::system_clock;

TEST(TimeTest, CastsAsChronoDoes) {
  EXPECT_EQ(SaturatingCast<microseconds>(1500ns), 1us);
  EXPECT_EQ(SaturatingCast<microseconds>(-1500ns), -1us);
  EXPECT_EQ(SaturatingCast<nanoseconds>(24h), 24h);
  EXPECT_EQ(SaturatingCast<milliseconds>(milliseconds::max()), milliseconds::max());
}

TEST(TimeTest, ACastThatWouldOverflowSaturates) {
  // gRPC's longest timeout, 99999999 hours, and years of 64-bit microseconds.
  EXPECT_EQ(SaturatingCast<nanoseconds>(std::chrono::hours(99'999'999)), nanoseconds::max());
  EXPECT_EQ(SaturatingCast<nanoseconds>(std::chrono::hours(-99'999'999)), nanoseconds::min());
  EXPECT_EQ(SaturatingCast<nanoseconds>(microseconds::max()), nanoseconds::max());
  EXPECT_EQ(SaturatingCast<microseconds>(std::chrono::hours::max()), microseconds::max());
}

TEST(TimeTest, SumsSaturateAtBothEnds) {
  using Point = steady_clock::time_point;
  const Point hour(1h);
  EXPECT_EQ(SaturatingAdd(hour, 1us), Point(1h + 1us));
  EXPECT_EQ(SaturatingAdd(hour, -2h), Point(-1h));
  EXPECT_EQ(SaturatingAdd(hour, nanoseconds::max()), Point::max());
  EXPECT_EQ(SaturatingAdd(hour, std::chrono::hours(2'562'048)), Point::max());
  EXPECT_EQ(SaturatingAdd(Point::max(), 1ns), Point::max());
  EXPECT_EQ(SaturatingAdd(Point::min(), -1ns), Point::min());
  EXPECT_EQ(SaturatingAdd(Point(-1h), std::chrono::hours::min()), Point::min());
}

TEST(TimeTest, DifferencesSaturateAtBothEnds) {
  using Point = system_clock::time_point;
  EXPECT_EQ(SaturatingSubtract(Point(2h), Point(1h)), 1h);
  EXPECT_EQ(SaturatingSubtract(Point::max(), Point(-1h)), Point::duration::max());
  EXPECT_EQ(SaturatingSubtract(Point::min(), Point(1h)), Point::duration::min());
}

TEST(TimeTest, AWallClockDeadlineIsTheSameDistanceAwayOnTheSteadyClock) {
  const system_clock::time_point wall(56 * 365 * 24h);
  const steady_clock::time_point steady(47min);
  EXPECT_EQ(ToDeadline(wall + 100ms, wall, steady), steady + 100ms);
  EXPECT_EQ(ToDeadline(wall - 100ms, wall, steady), steady - 100ms);
  EXPECT_EQ(ToDeadline(system_clock::time_point::max(), wall, steady), Deadline::max());
}

// Go's longest context. Added to a steady clock past its 47th minute, it overflowed, and the
// deadline had passed.
TEST(TimeTest, ADeadlineCenturiesAwayHasNotPassed) {
  const system_clock::time_point wall(1h);
  const steady_clock::time_point steady(292 * 365 * 24h);
  EXPECT_EQ(ToDeadline(system_clock::time_point(nanoseconds::max() - 1ns), wall, steady),
            Deadline::max());
}

TEST(TimeTest, SplitsIntoSecondsAndNanoseconds) {
  const timespec time = ToTimespec(90s + 5ms);
  EXPECT_EQ(time.tv_sec, 90);
  EXPECT_EQ(time.tv_nsec, 5'000'000);
  const timespec negative = ToTimespec(-1ns);
  EXPECT_EQ(negative.tv_sec, -1);
  EXPECT_EQ(negative.tv_nsec, 999'999'999);
  EXPECT_EQ(ToTimespec(nanoseconds::max()).tv_sec, nanoseconds::max() / 1s);
}

}  // namespace
}  // namespace ratelimiter
