#pragma once

#include <chrono>
#include <concepts>
#include <thread>

namespace ratelimiter::testing {

// Whether `condition` comes to hold, within ten seconds.
bool Eventually(const std::predicate auto& condition) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace ratelimiter::testing
