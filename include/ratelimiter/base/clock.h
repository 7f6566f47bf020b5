#pragma once

#include <chrono>

namespace ratelimiter {

// When a caller stops waiting. Deadline::max(): never.
using Deadline = std::chrono::steady_clock::time_point;

// The source of time for refills; tests inject their own.
//
// Implementations are thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  // Microseconds since a fixed moment. Implementations that may step back say so, and their
  // users must handle it.
  virtual std::chrono::microseconds Now() const = 0;
};

// The machine's monotonic clock, which never steps back.
class SteadyClock final : public Clock {
 public:
  std::chrono::microseconds Now() const override {
    return std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::steady_clock::now().time_since_epoch());
  }
};

}  // namespace ratelimiter
