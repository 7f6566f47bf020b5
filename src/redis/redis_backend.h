#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <absl/status/status.h>

#include "ratelimiter/base/clock.h"
#include "script_invocation.h"

namespace ratelimiter {

// What a round trip is for.
enum class Purpose : std::uint8_t {
  kCall,  // The metrics are told what it took.
  // Whether Redis can decide. Not observed: the latency is that of calls, of which
  // there may be few.
  kCheck,
  kProbe,  // The same, while the breaker is open.
};

// Has Redis run calls of the script: one Redis, or a Cluster of them. Thread-safe.
class RedisBackend {
 public:
  RedisBackend() = default;
  virtual ~RedisBackend() = default;
  RedisBackend(const RedisBackend&) = delete;
  RedisBackend& operator=(const RedisBackend&) = delete;

  // Gives each call its answer or error. Waits for min(`deadline`, timeout) until they
  // are sent, and then for timeout. Their order may change, but not that of calls of
  // one bucket, unless its slot of a Cluster is on its way.
  virtual void Run(std::span<ScriptCall> calls, Deadline deadline, Purpose purpose) = 0;

  // Whether Redis can decide now. See TokenBucketStore::Check.
  virtual absl::Status Check(Deadline deadline) = 0;

  // How many breakers are open now, and how often one has opened.
  virtual std::size_t open_breakers() const = 0;
  virtual std::uint64_t breaker_openings() const = 0;

  // How many callers wait for a turn on a connection now.
  virtual std::size_t waiting_calls() const = 0;
  // Whether a server that is connected to may evict buckets.
  virtual bool may_evict() const = 0;
};

}  // namespace ratelimiter
