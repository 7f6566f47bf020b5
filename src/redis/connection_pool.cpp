#include "ratelimiter/redis/connection_pool.h"

#include <optional>
#include <utility>

#include "resolver.h"

namespace ratelimiter {

ConnectionPool::ConnectionPool(RedisServer server, std::size_t size)
    : server_(std::move(server)),
      size_(size),
      resolver_(std::make_unique<Resolver>(server_.host)) {}

ConnectionPool::~ConnectionPool() = default;

absl::StatusOr<ConnectionPool::Lease> ConnectionPool::Acquire(Deadline deadline) {
  std::optional<Connection> idle;
  {
    std::unique_lock lock(mutex_);
    const bool available = returned_.wait_until(
        lock, deadline, [this] { return !idle_.empty() || places_taken_ < size_; });
    if (!available) {
      return absl::DeadlineExceededError("all connections are in use (REDIS_POOL_SIZE)");
    }
    if (idle_.empty()) {
      ++places_taken_;
    } else {
      idle = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (idle.has_value() && !idle->IsStale()) return Lease(*this, *std::move(idle));

  absl::StatusOr<Connection> opened = Open(deadline);
  if (!opened.ok()) {
    GiveUpPlace();
    return opened.status();
  }
  return Lease(*this, *std::move(opened));
}

absl::StatusOr<Connection> ConnectionPool::Open(Deadline deadline) {
  const absl::StatusOr<std::vector<std::string>> addresses = resolver_->Addresses(deadline);
  absl::StatusOr<Connection> connection =
      addresses.ok() ? Connection::Open(server_, *addresses, deadline) : addresses.status();
  // The name may point elsewhere by now.
  if (!connection.ok()) resolver_->Refresh();
  return connection;
}

void ConnectionPool::Return(Connection connection) {
  if (connection.broken()) {
    GiveUpPlace();
    return;
  }
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(connection));
  returned_.notify_one();
}

void ConnectionPool::GiveUpPlace() {
  const std::lock_guard lock(mutex_);
  --places_taken_;
  returned_.notify_one();
}

}  // namespace ratelimiter
