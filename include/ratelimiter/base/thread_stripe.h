#pragma once

#include <atomic>
#include <cstddef>

namespace ratelimiter {

// This thread's number, given out in turn: by it threads are spread over places, each of
// which few of them share. Thread-safe.
inline std::size_t ThreadStripe() {
  static std::atomic<std::size_t> threads{0};
  thread_local const std::size_t place = threads.fetch_add(1, std::memory_order_relaxed);
  return place;
}

}  // namespace ratelimiter
