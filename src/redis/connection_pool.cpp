#include "ratelimiter/redis/connection_pool.h"

#include <optional>
#include <utility>

#include "resolver.h"

namespace ratelimiter {

ConnectionPool::ConnectionPool(const RedisServer& server, std::size_t size)
    : ConnectionPool(server, size, std::make_unique<Resolver>(server.host)) {}

ConnectionPool::ConnectionPool(RedisServer server, std::size_t size,
                               std::unique_ptr<Resolver> resolver)
    : server_(std::move(server)), size_(size), resolver_(std::move(resolver)) {}

ConnectionPool::~ConnectionPool() = default;

absl::StatusOr<ConnectionPool::Lease> ConnectionPool::Acquire(Deadline deadline) {
  absl::StatusOr<std::optional<Connection>> place = TakePlace(deadline);
  if (!place.ok()) return place.status();
  std::optional<Connection>& idle = *place;
  if (idle.has_value() && !idle->IsStale()) return Lease(*this, *std::move(idle));

  absl::StatusOr<Connection> opened = Open(deadline);
  if (!opened.ok()) {
    GiveBack(std::nullopt);
    return opened.status();
  }
  return Lease(*this, *std::move(opened));
}

absl::StatusOr<std::optional<Connection>> ConnectionPool::TakePlace(Deadline deadline) {
  std::unique_lock lock(mutex_);
  if (!idle_.empty()) {
    std::optional<Connection> idle = std::move(idle_.back());
    idle_.pop_back();
    return idle;
  }
  if (places_taken_ < size_) {
    ++places_taken_;
    return std::nullopt;
  }
  Waiter waiter;
  const auto place_in_queue = waiters_.insert(waiters_.end(), &waiter);
  if (!waiter.served.wait_until(lock, deadline, [&] { return waiter.has_place; })) {
    waiters_.erase(place_in_queue);
    return absl::DeadlineExceededError("all connections are in use (REDIS_POOL_SIZE)");
  }
  return std::move(waiter.idle);
}

absl::StatusOr<Connection> ConnectionPool::Open(Deadline deadline) {
  const absl::StatusOr<std::vector<std::string>> addresses = resolver_->Addresses(deadline);
  absl::StatusOr<Connection> connection =
      addresses.ok() ? Connection::Open(server_, *addresses, deadline) : addresses.status();
  // The name may point elsewhere by now.
  if (!connection.ok()) resolver_->Refresh();
  return connection;
}

void ConnectionPool::GiveBack(std::optional<Connection> connection) {
  if (connection.has_value() && connection->broken()) {
    connection.reset();
    // A master that was demoted still lets us connect, while the name points to
    // its successor.
    resolver_->Refresh();
  }
  const std::lock_guard lock(mutex_);
  if (!waiters_.empty()) {
    Waiter& first = *waiters_.front();
    waiters_.pop_front();
    first.idle = std::move(connection);
    first.has_place = true;
    first.served.notify_one();  // Under the lock: the waiter ends once it is free.
  } else if (connection.has_value()) {
    idle_.push_back(*std::move(connection));
  } else {
    --places_taken_;
  }
}

}  // namespace ratelimiter
