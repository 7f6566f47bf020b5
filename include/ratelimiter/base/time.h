#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <limits>

#include "ratelimiter/base/clock.h"

namespace ratelimiter {

// Arithmetic on times from outside the process: requests' deadlines, settings, certificates,
// replies. std::chrono's own sums and conversions overflow, which turns a very long wait into
// one that is over. These return the largest or smallest value of their type instead.
//
// For durations that count in integers.

namespace time_internal {

// Wide enough for any 64-bit count in any unit of std::chrono.
__extension__ using Wide = __int128;

template <typename Duration>
constexpr Duration Clamp(Wide count) {
  using Rep = typename Duration::rep;
  constexpr Wide kLeast = std::numeric_limits<Rep>::min();
  constexpr Wide kMost = std::numeric_limits<Rep>::max();
  return Duration(static_cast<Rep>(std::clamp(count, kLeast, kMost)));
}

}  // namespace time_internal

// std::chrono::duration_cast, saturating.
template <typename To, typename Rep, typename Period>
constexpr To SaturatingCast(std::chrono::duration<Rep, Period> duration) {
  using Factor = std::ratio_divide<Period, typename To::period>;
  using time_internal::Wide;
  return time_internal::Clamp<To>(Wide{duration.count()} * Factor::num / Factor::den);
}

// `time` + `duration`, in the unit of `time`.
template <typename Clock, typename Duration, typename Rep, typename Period>
constexpr std::chrono::time_point<Clock, Duration> SaturatingAdd(
    std::chrono::time_point<Clock, Duration> time, std::chrono::duration<Rep, Period> duration) {
  using time_internal::Wide;
  return std::chrono::time_point<Clock, Duration>(time_internal::Clamp<Duration>(
      Wide{time.time_since_epoch().count()} + SaturatingCast<Duration>(duration).count()));
}

// `end` - `begin`.
template <typename Clock, typename Duration>
constexpr Duration SaturatingSubtract(std::chrono::time_point<Clock, Duration> end,
                                      std::chrono::time_point<Clock, Duration> begin) {
  using time_internal::Wide;
  return time_internal::Clamp<Duration>(Wide{end.time_since_epoch().count()} -
                                        begin.time_since_epoch().count());
}

// A deadline by the wall clock, as gRPC has it, by the steady clock. The latest
// time_point is no deadline. `system_now` and `steady_now` are the same moment.
inline Deadline ToDeadline(
    std::chrono::system_clock::time_point deadline,
    std::chrono::system_clock::time_point system_now = std::chrono::system_clock::now(),
    std::chrono::steady_clock::time_point steady_now = std::chrono::steady_clock::now()) {
  if (deadline == std::chrono::system_clock::time_point::max()) return Deadline::max();
  return SaturatingAdd(steady_now, SaturatingSubtract(deadline, system_now));
}

// For system calls. A negative duration has negative seconds and nanoseconds of 0 and more.
constexpr timespec ToTimespec(std::chrono::nanoseconds duration) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(duration);
  return {.tv_sec = seconds.count(),
          .tv_nsec = SaturatingCast<std::chrono::nanoseconds>(duration - seconds).count()};
}

}  // namespace ratelimiter
