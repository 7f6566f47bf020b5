#pragma once

#include <concepts>
#include <cstddef>
#include <thread>
#include <vector>

namespace ratelimiter::testing {

// Runs action(0), action(1), … on `count` threads at once, and waits for them.
void OnThreads(std::size_t count, const std::invocable<std::size_t> auto& action) {
  std::vector<std::jthread> threads;
  threads.reserve(count);
  for (std::size_t i = 0; i < count; ++i) threads.emplace_back([&action, i] { action(i); });
}

}  // namespace ratelimiter::testing
