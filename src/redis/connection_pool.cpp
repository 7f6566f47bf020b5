#include "connection_pool.h"

#include <utility>

namespace ratelimiter {

ConnectionPool::ConnectionPool(const RedisServer& server, std::size_t size,
                               std::chrono::milliseconds timeout, const Script& script,
                               Metrics& metrics, std::unique_ptr<Resolver> resolver)
    : resolver_(std::move(resolver)) {
  for (std::size_t i = 0; i < size; ++i) {
    lanes_.push_back(std::make_unique<Lane>(server, timeout, script, *resolver_, metrics));
  }
}

void ConnectionPool::Run(std::span<ScriptCall> calls, Deadline deadline, bool observed) {
  lanes_[calls.front().buckets.front() % lanes_.size()]->Run(calls, deadline, observed);
}

}  // namespace ratelimiter
