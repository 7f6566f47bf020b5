#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <prometheus/collectable.h>

#include "ratelimiter/base/user_label.h"
#include "ratelimiter/metrics/metric_table.h"

namespace ratelimiter {

// Counts by a label, such as the user, and a status, with a bounded number of
// series.
//
// The first labels, up to the bound, keep a series for each status for the life
// of the process; all others share the label "__other__". So the sum over the
// series is the exact total, and no series ever falls or goes away. What is shown
// is the label as LabelOf has it, harmless; labels that look alike then share a series.
//
// Thread-safe. Counting for a label already seen takes no lock and allocates
// nothing.
class StatusCounter : public prometheus::Collectable {
 public:
  static constexpr std::size_t kMaxStatuses = 4;
  static constexpr std::string_view kOther = "__other__";

  struct Options {
    // Has two labels: what is counted by, and the status.
    Metric metric{};
    // Labels with series of their own at most.
    std::size_t max_labels = 0;
    UserLabel shown_as = UserLabel::kPlain;
    // What all others share.
    std::string_view other = kOther;
  };

  explicit StatusCounter(const Options& options);

  template <typename Status>
  void Count(std::string_view label, Status status) {
    SeriesOf(label).Add(static_cast<std::size_t>(status));
  }

  // Counts where all others do.
  template <typename Status>
  void CountOther(Status status) {
    other_.Add(static_cast<std::size_t>(status));
  }

  // Has the label's series show, at 0 if nothing was counted.
  void Show(std::string_view label) { SeriesOf(label); }

  // Labels that have series of their own, at most max_labels.
  std::size_t tracked() const { return tracked_.load(std::memory_order_relaxed); }
  // What was counted where all others are.
  std::uint64_t untracked() const;

  // By status, in the order of statuses().
  using Counts = std::array<std::uint64_t, kMaxStatuses>;

  // Their names.
  std::span<const std::string_view> statuses() const {
    return DefinitionOf(options_.metric).labels[1].values;
  }

  // The sums over all labels.
  Counts Totals() const;

  // A label's own; nullopt: it has no series of its own.
  std::optional<Counts> CountsOf(std::string_view label) const;

  // A label's series appear together, at 0.
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  // A cache line of its own, so that busy users do not slow each other down.
  struct alignas(64) Series {
    std::array<std::atomic<std::uint64_t>, kMaxStatuses> by_status{};
    void Add(std::size_t status) { by_status[status].fetch_add(1, std::memory_order_relaxed); }
    void AddTo(Counts& counts) const {
      for (std::size_t i = 0; i < kMaxStatuses; ++i) {
        counts[i] += by_status[i].load(std::memory_order_relaxed);
      }
    }
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
  // Guarded by mutex_. What they hold does not move, for it is read without it.
  std::deque<Label> labels_;
  std::deque<Series> series_;
  std::unordered_map<std::string, Series*> series_by_shown_;
};

enum class RequestStatus : std::uint8_t { kAllowed, kDenied, kError };

// rate_limiter_requests_total: requests by user and RequestStatus.
class RequestCounter final : public StatusCounter {
 public:
  explicit RequestCounter(std::size_t max_users, UserLabel label = UserLabel::kPlain)
      : StatusCounter({.metric = Metric::kRequests,
                       .max_labels = label == UserLabel::kOff ? 0 : max_users,
                       .shown_as = label,
                       .other = label == UserLabel::kOff ? kAllUsers : kOther}) {}
};

// kError: a request that it applies to, and that nobody decided.
enum class LimitStatus : std::uint8_t { kAllowed, kDenied, kShadowDenied, kError };

// rate_limiter_decisions_total: what each limit said of the requests subject to
// it, by limit and LimitStatus.
class LimitCounter final : public StatusCounter {
 public:
  static constexpr std::size_t kMaxLimits = 1'000;

  explicit LimitCounter(std::size_t max_limits = kMaxLimits)
      : StatusCounter({.metric = Metric::kDecisions, .max_labels = max_limits}) {}
};

}  // namespace ratelimiter
