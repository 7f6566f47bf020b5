#pragma once

#include <atomic>
#include <cstddef>

namespace ratelimiter {

// This thread's number, assigned in turn, which spreads threads over stripes that few of them
// share. Thread-safe.
inline std::size_t ThreadStripe() {
  static std::atomic<std::size_t> threads{0};
  thread_local const std::size_t number = threads.fetch_add(1, std::memory_order_relaxed);
  return number;
}

}  // namespace ratelimiter
