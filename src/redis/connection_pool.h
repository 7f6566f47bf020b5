#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "lane.h"
#include "ratelimiter/base/clock.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/redis/connection.h"
#include "ratelimiter/redis/script.h"
#include "resolver.h"
#include "script_call.h"

namespace ratelimiter {

// The connections to one Redis, each shared by the callers whose buckets it
// serves.
//
// Thread-safe.
class ConnectionPool {
 public:
  // `size`: connections at most, 1 and more. `timeout`: see Lane. What they are
  // given must outlive it.
  ConnectionPool(const RedisServer& server, std::size_t size, std::chrono::milliseconds timeout,
                 const Script& script, Metrics& metrics, std::unique_ptr<Resolver> resolver);

  // Has Redis run the calls, as Lane::Run does. Calls of one bucket go the same
  // way, so that they can be folded.
  void Run(std::span<ScriptCall> calls, Deadline deadline, bool observed);

 private:
  const std::unique_ptr<Resolver> resolver_;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

}  // namespace ratelimiter
