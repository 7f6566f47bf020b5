#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <prometheus/collectable.h>

namespace ratelimiter {

enum class RequestStatus : std::uint8_t { kAllowed, kDenied, kError };

// Counts requests by user and status, with a bounded number of series.
//
// The first `max_users` users keep a series each for the life of the process;
// all others share user="__other__". So the sum over the series is the exact
// total, and no series ever falls or goes away. A label is the user id made
// harmless: control characters become U+FFFD and at most 128 bytes are shown;
// ids that look alike then share a series.
//
// Thread-safe. Counting for a user already seen takes no lock and allocates
// nothing.
class RequestCounter final : public prometheus::Collectable {
 public:
  explicit RequestCounter(std::size_t max_users);

  void Count(std::string_view user, RequestStatus status);

  // Counts a request that names no user that could have a bucket.
  void CountUnnamed(RequestStatus status);

  // Users that have a series of their own, at most max_users.
  std::size_t tracked_users() const { return tracked_users_.load(std::memory_order_relaxed); }

  // rate_limiter_requests_total. A user's three series appear together, at 0.
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  // A cache line of its own, so that busy users do not slow each other down.
  struct alignas(64) Series {
    std::array<std::atomic<std::uint64_t>, 3> by_status{};
    void Add(RequestStatus status) {
      by_status[static_cast<std::size_t>(status)].fetch_add(1, std::memory_order_relaxed);
    }
  };
  // A user id and the series it counts in. Immutable once published.
  struct User {
    std::string id;
    Series* series;
  };

  Series* Find(std::string_view user) const;
  Series& FindOrAdd(std::string_view user);

  // Constant after construction.
  const std::size_t max_users_;

  // An open-addressing hash table, at most half full, that only grows: readers
  // walk it without a lock, writers publish into empty cells under mutex_.
  std::vector<std::atomic<const User*>> cells_;
  std::atomic<std::size_t> tracked_users_{0};
  Series other_;

  mutable std::mutex mutex_;
  // Guarded by mutex_. Deques, for what they hold must not move.
  std::deque<User> users_;
  std::deque<Series> series_;
  absl::flat_hash_map<std::string, Series*> series_by_label_;
};

}  // namespace ratelimiter
