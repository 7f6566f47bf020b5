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

// Counts by a label, such as the user, and a status, with a bounded number of
// series.
//
// The first labels, up to the bound, keep a series for each status for the life
// of the process; all others share the label "__other__". So the sum over the
// series is the exact total, and no series ever falls or goes away. What is shown
// is the label made harmless: control characters become U+FFFD and at most 128
// bytes are shown; labels that look alike then share a series.
//
// Thread-safe. Counting for a label already seen takes no lock and allocates
// nothing.
class StatusCounter : public prometheus::Collectable {
 public:
  static constexpr std::size_t kMaxStatuses = 3;

  struct Options {
    std::string name;
    std::string help;
    std::string label_name;
    std::array<const char*, kMaxStatuses> statuses{};
    // Labels with series of their own at most.
    std::size_t max_labels = 0;
  };

  explicit StatusCounter(Options options);

  template <typename Status>
  void Count(std::string_view label, Status status) {
    SeriesOf(label).Add(static_cast<std::size_t>(status));
  }

  // Counts under "__other__".
  template <typename Status>
  void CountOther(Status status) {
    other_.Add(static_cast<std::size_t>(status));
  }

  // Has the label's series show, at 0 if nothing was counted.
  void Show(std::string_view label) { SeriesOf(label); }

  // Labels that have series of their own, at most max_labels.
  std::size_t tracked() const { return tracked_.load(std::memory_order_relaxed); }

  // A label's series appear together, at 0.
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  // A cache line of its own, so that busy users do not slow each other down.
  struct alignas(64) Series {
    std::array<std::atomic<std::uint64_t>, kMaxStatuses> by_status{};
    void Add(std::size_t status) { by_status[status].fetch_add(1, std::memory_order_relaxed); }
  };
  // A label and the series it counts in. Immutable once published.
  struct Label {
    std::string text;
    Series* series;
  };

  Series& SeriesOf(std::string_view label);
  Series* Find(std::string_view label) const;
  Series& FindOrAdd(std::string_view label);

  // Constant after construction.
  const Options options_;

  // An open-addressing hash table, at most half full, that only grows: readers
  // walk it without a lock, writers publish into empty cells under mutex_.
  std::vector<std::atomic<const Label*>> cells_;
  std::atomic<std::size_t> tracked_{0};
  Series other_;

  mutable std::mutex mutex_;
  // Guarded by mutex_. Deques, for what they hold must not move.
  std::deque<Label> labels_;
  std::deque<Series> series_;
  absl::flat_hash_map<std::string, Series*> series_by_shown_;
};

enum class RequestStatus : std::uint8_t { kAllowed, kDenied, kError };

// rate_limiter_requests_total: requests by user and RequestStatus.
class RequestCounter final : public StatusCounter {
 public:
  explicit RequestCounter(std::size_t max_users)
      : StatusCounter({.name = "rate_limiter_requests_total",
                       .help = "Requests decided, by user and status (allowed, denied, error)",
                       .label_name = "user",
                       .statuses = {"allowed", "denied", "error"},
                       .max_labels = max_users}) {}
};

enum class LimitStatus : std::uint8_t { kAllowed, kDenied, kShadowDenied };

// rate_limiter_decisions_total: what each limit said of the requests subject to
// it, by limit and LimitStatus.
class LimitCounter final : public StatusCounter {
 public:
  static constexpr std::size_t kMaxLimits = 1'000;

  explicit LimitCounter(std::size_t max_limits = kMaxLimits)
      : StatusCounter({.name = "rate_limiter_decisions_total",
                       .help = "What each limit said of the requests that it applies to, by limit "
                               "and status (allowed, denied, shadow_denied)",
                       .label_name = "limit",
                       .statuses = {"allowed", "denied", "shadow_denied"},
                       .max_labels = max_limits}) {}
};

}  // namespace ratelimiter
