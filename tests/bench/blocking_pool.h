#pragma once

#include <condition_variable>
#include <cstddef>
#include <list>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/redis/connection.h"

namespace ratelimiter {

// A bounded set of connections to one Redis, opened when first needed, each lent
// to one caller at a time: the plain way, for pool_server to be measured.
//
// Thread-safe. Nothing is sent or received under its lock. Leases must end
// before it is destroyed.
class BlockingPool {
 public:
  // One connection, until it is destroyed; then it goes back to the pool, or is
  // discarded if it is broken.
  class Lease {
   public:
    Lease(BlockingPool& pool, Connection connection)
        : pool_(&pool), connection_(std::move(connection)) {}
    Lease(Lease&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)), connection_(std::move(other.connection_)) {}
    Lease& operator=(Lease&&) = delete;
    ~Lease() {
      if (pool_ != nullptr) pool_->GiveBack(std::move(connection_));
    }
    Connection& operator*() { return connection_; }

   private:
    BlockingPool* pool_;
    Connection connection_;
  };

  // The server's host must be a numeric address. `size`: connections at most, 1
  // and more.
  BlockingPool(RedisServer server, std::size_t size) : server_(std::move(server)), size_(size) {}

  // A usable connection: an idle one that the server has not closed, or a new
  // one. Where all are lent it waits its turn: first come, first served. Errors:
  // UNAVAILABLE, with the reason; DEADLINE_EXCEEDED.
  absl::StatusOr<Lease> Acquire(Deadline deadline);

 private:
  // A caller for whom there is no place yet. It lives on that caller's stack.
  struct Waiter {
    std::condition_variable served;
    // Guarded by mutex_.
    bool has_place = false;
    std::optional<Connection> idle;
  };

  // The right to one of the connections, with an idle one if there is any.
  absl::StatusOr<std::optional<Connection>> TakePlace(Deadline deadline);
  // Ends that right, and keeps the connection if there is one and it works.
  void GiveBack(std::optional<Connection> connection);

  // Constant after construction.
  const RedisServer server_;
  const std::size_t size_;

  std::mutex mutex_;
  // Guarded by mutex_.
  std::list<Waiter*> waiters_;    // First come, first served.
  std::vector<Connection> idle_;  // The most recently used last.
  std::size_t places_taken_ = 0;  // Connections lent, idle or being opened.
};

}  // namespace ratelimiter
