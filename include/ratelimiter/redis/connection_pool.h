#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/redis/connection.h"

namespace ratelimiter {

class Resolver;

// A bounded set of connections to one Redis, opened when first needed.
//
// Thread-safe. Nothing is sent or received under its lock. Leases must end
// before it is destroyed.
class ConnectionPool {
 public:
  // One connection, until it is destroyed; then it goes back to the pool, or is
  // discarded if it is broken.
  class Lease {
   public:
    Lease(ConnectionPool& pool, Connection connection)
        : pool_(&pool), connection_(std::move(connection)) {}
    Lease(Lease&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)), connection_(std::move(other.connection_)) {}
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
      if (pool_ != nullptr) pool_->Return(std::move(connection_));
    }
    Connection& operator*() { return connection_; }

   private:
    ConnectionPool* pool_;
    Connection connection_;
  };

  // `size`: connections at most, 1 and more.
  ConnectionPool(RedisServer server, std::size_t size);
  ~ConnectionPool();

  // A usable connection: an idle one that the server has not closed, or a new
  // one; waits for one to come back where all are lent. Errors: UNAVAILABLE,
  // with the reason; DEADLINE_EXCEEDED.
  absl::StatusOr<Lease> Acquire(Deadline deadline);

 private:
  absl::StatusOr<Connection> Open(Deadline deadline);
  void Return(Connection connection);
  void GiveUpPlace();

  // Constant after construction.
  const RedisServer server_;
  const std::size_t size_;
  // Self-synchronised.
  const std::unique_ptr<Resolver> resolver_;

  std::mutex mutex_;
  std::condition_variable returned_;
  // Guarded by mutex_.
  std::vector<Connection> idle_;  // The most recently used last.
  std::size_t places_taken_ = 0;  // Connections lent, idle or being opened.
};

}  // namespace ratelimiter
