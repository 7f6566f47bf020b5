#pragma once

#include <chrono>

namespace ratelimiter {

// The moment by which a caller wants its answer. Deadline::max() is none.
using Deadline = std::chrono::steady_clock::time_point;

// The time that buckets are refilled by, injected so that tests set it.
//
// Implementations are thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  // Microseconds since some fixed moment. May step back where an
  // implementation says so; its users must bear that.
  virtual std::chrono::microseconds Now() const = 0;
};

// The machine's monotonic clock: never steps back.
class SteadyClock final : public Clock {
 public:
  std::chrono::microseconds Now() const override {
    return std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::steady_clock::now().time_since_epoch());
  }
};

}  // namespace ratelimiter
