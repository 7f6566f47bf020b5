#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "ratelimiter/base/thread_stripe.h"

namespace ratelimiter {

// Numbers that every call adds to, in stripes: each thread has a stripe that it shares with
// few others, so that no cache line is written by all.
//
// Thread-safe. Adding takes no lock.
template <std::size_t Counts>
class StripedCounts {
 public:
  void Add(std::size_t which, std::uint64_t number = 1) {
    stripes_[ThreadStripe() % kStripes].counts[which].fetch_add(number, std::memory_order_relaxed);
  }

  std::uint64_t Total(std::size_t which) const {
    std::uint64_t total = 0;
    for (const Stripe& stripe : stripes_) {
      total += stripe.counts[which].load(std::memory_order_relaxed);
    }
    return total;
  }

 private:
  static constexpr std::size_t kStripes = 16;

  struct alignas(64) Stripe {
    std::array<std::atomic<std::uint64_t>, Counts> counts{};
  };

  std::array<Stripe, kStripes> stripes_{};
};

}  // namespace ratelimiter
