#include "ratelimiter/service/concurrency_limiter.h"

#include <fmt/format.h>

namespace ratelimiter {

ConcurrencyLimiter::ConcurrencyLimiter(std::size_t max_in_flight)
    : max_in_flight_(max_in_flight),
      refusal_(absl::ResourceExhaustedError(
          fmt::format("overloaded: {} calls in flight (MAX_IN_FLIGHT); request not processed; "
                      "retry in about 2 s",
                      max_in_flight))) {}

ConcurrencyLimiter::Permit ConcurrencyLimiter::Acquire() {
  // Never counts a refused call, which would keep others out.
  std::size_t in_flight = in_flight_.load(std::memory_order_relaxed);
  while (in_flight < max_in_flight_) {
    if (in_flight_.compare_exchange_weak(in_flight, in_flight + 1, std::memory_order_relaxed)) {
      return Permit(&in_flight_);
    }
  }
  return Permit(nullptr);
}

Overload ConcurrencyLimiter::Refuse() {
  constexpr unsigned kDelays = 256;
  constexpr std::chrono::milliseconds kMin{1000};
  constexpr std::chrono::milliseconds kMax{3000};
  // Coprime to kDelays: every delay gets its turn, and consecutive ones lie far apart.
  constexpr unsigned kStep = 99;
  const unsigned delay = refused_.fetch_add(kStep, std::memory_order_relaxed) % kDelays;
  return {.status = refusal_, .retry_delay = kMin + delay * (kMax - kMin) / (kDelays - 1)};
}

}  // namespace ratelimiter
