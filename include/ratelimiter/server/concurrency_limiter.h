#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <vector>

#include <grpcpp/support/status.h>

namespace ratelimiter {

// Bounds the calls that are worked on at once: each takes a place, and one that
// finds none is refused at once. Beyond what the server can do, more calls at once
// make none of them faster, and all of them late.
//
// Thread-safe. Neither way takes a lock or waits.
class ConcurrencyLimiter {
 public:
  // `max_in_flight`: places; 1 and more.
  explicit ConcurrencyLimiter(std::size_t max_in_flight);

  // A call's place, given back at its end. Empty: there was none. The shedder must
  // outlive it.
  class Permit {
   public:
    explicit operator bool() const { return taken_ != nullptr; }

   private:
    friend class ConcurrencyLimiter;
    struct GiveBack {
      void operator()(std::atomic<std::size_t>* in_flight) const {
        in_flight->fetch_sub(1, std::memory_order_relaxed);
      }
    };
    explicit Permit(std::atomic<std::size_t>* taken) : taken_(taken) {}

    std::unique_ptr<std::atomic<std::size_t>, GiveBack> taken_;
  };
  Permit Acquire();

  // Places taken now.
  std::size_t in_flight() const { return in_flight_.load(std::memory_order_relaxed); }

  // What a call is answered that found no place: RESOURCE_EXHAUSTED, and in the
  // details a google.rpc.RetryInfo. What it says to wait is spread evenly over one
  // second to three, so that callers do not come back together, and so that those who
  // wait cost little beside those who are served.
  const grpc::Status& Refusal();

 private:
  // Every call writes to it: in a cache line of its own, with what it is read with.
  alignas(64) std::atomic<std::size_t> in_flight_ = 0;
  const std::size_t max_in_flight_;
  // Made beforehand, one for each wait.
  const std::vector<grpc::Status> refusals_;
  std::atomic<std::size_t> refused_ = 0;
};

}  // namespace ratelimiter
