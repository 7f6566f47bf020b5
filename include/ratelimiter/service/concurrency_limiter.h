#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>

#include <absl/status/status.h>

namespace ratelimiter {

// How to answer a call that was refused because too many others were in flight.
struct Overload {
  // RESOURCE_EXHAUSTED. Nothing was done for the call.
  absl::Status status;
  // How long the caller should wait before it retries.
  std::chrono::milliseconds retry_delay{0};
};

// Bounds the number of calls in flight. A call beyond the bound is refused at once: more
// concurrency than the server has capacity for would only make every call late.
//
// Thread-safe. Nothing here takes a lock or waits.
class ConcurrencyLimiter {
 public:
  // `max_in_flight`: 1 or more.
  explicit ConcurrencyLimiter(std::size_t max_in_flight);

  // The right to be in flight, released on destruction. Empty: refused. The limiter must
  // outlive it.
  class Permit {
   public:
    explicit operator bool() const { return taken_ != nullptr; }

   private:
    friend class ConcurrencyLimiter;
    struct Release {
      void operator()(std::atomic<std::size_t>* in_flight) const {
        in_flight->fetch_sub(1, std::memory_order_relaxed);
      }
    };
    explicit Permit(std::atomic<std::size_t>* taken) : taken_(taken) {}

    std::unique_ptr<std::atomic<std::size_t>, Release> taken_;
  };
  Permit Acquire();

  // Permits held now.
  std::size_t in_flight() const { return in_flight_.load(std::memory_order_relaxed); }

  // How to answer a call that got no permit. Retry delays are spread evenly from one to three
  // seconds, so that refused callers do not come back all at once.
  Overload Refuse();

 private:
  // Written by every call: in a cache line of its own, together with what is read along with it.
  alignas(64) std::atomic<std::size_t> in_flight_ = 0;
  const std::size_t max_in_flight_;
  const absl::Status refusal_;
  std::atomic<unsigned> refused_ = 0;
};

}  // namespace ratelimiter
