#pragma once

#include <atomic>
#include <chrono>

#include "ratelimiter/base/clock.h"

namespace ratelimiter::testing {

// Time that stands still until a test moves it, forward or back.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(std::chrono::microseconds now) : now_(now) {}
  std::chrono::microseconds Now() const override { return now_.load(); }
  void Set(std::chrono::microseconds now) { now_.store(now); }
  void Advance(std::chrono::microseconds by) {
    std::chrono::microseconds now = Now();
    while (!now_.compare_exchange_weak(now, now + by)) {
    }
  }

 private:
  std::atomic<std::chrono::microseconds> now_;
};

}  // namespace ratelimiter::testing
