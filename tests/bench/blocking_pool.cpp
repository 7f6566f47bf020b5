#include "blocking_pool.h"

namespace ratelimiter {

absl::StatusOr<BlockingPool::Lease> BlockingPool::Acquire(Deadline deadline) {
  absl::StatusOr<std::optional<Connection>> place = TakePlace(deadline);
  if (!place.ok()) return place.status();
  std::optional<Connection>& idle = *place;
  if (idle.has_value() && !idle->IsStale()) return Lease(*this, *std::move(idle));

  absl::StatusOr<Connection> opened = Connection::Open(server_, {server_.host}, deadline);
  if (!opened.ok()) {
    GiveBack(std::nullopt);
    return opened.status();
  }
  return Lease(*this, *std::move(opened));
}

absl::StatusOr<std::optional<Connection>> BlockingPool::TakePlace(Deadline deadline) {
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
    return absl::DeadlineExceededError("all connections are in use");
  }
  return std::move(waiter.idle);
}

void BlockingPool::GiveBack(std::optional<Connection> connection) {
  if (connection.has_value() && connection->broken()) connection.reset();
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
