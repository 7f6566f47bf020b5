#pragma once

#include <chrono>
#include <cstdint>

namespace ratelimiter {

// When each call of an open loop is due: evenly spaced, without drift.
class SendSchedule {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // At least one call a second.
  SendSchedule(TimePoint start, std::uint32_t calls_per_second)
      : start_(start), rate_(calls_per_second) {}

  // Of the call with that number, from 0; rounded down to the nanosecond.
  TimePoint At(std::uint64_t number) const {
    const auto seconds = static_cast<std::int64_t>(number / rate_);
    const auto nanoseconds = static_cast<std::int64_t>((number % rate_) * kNanoseconds / rate_);
    return start_ + std::chrono::seconds(seconds) + std::chrono::nanoseconds(nanoseconds);
  }

 private:
  static constexpr std::uint64_t kNanoseconds = 1'000'000'000;

  TimePoint start_;
  std::uint64_t rate_;
};

}  // namespace ratelimiter
