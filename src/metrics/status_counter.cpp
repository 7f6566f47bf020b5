#include "ratelimiter/metrics/status_counter.h"

#include <bit>
#include <numeric>
#include <utility>

#include <absl/hash/hash.h>
#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>

namespace ratelimiter {

StatusCounter::StatusCounter(const Options& options)
    : options_(options), cells_(std::bit_ceil(2 * options_.max_labels + 2)) {}

StatusCounter::Series& StatusCounter::SeriesOf(std::string_view label) {
  // Looked at before the table, which is never written again from then on.
  const bool all_given_out = tracked_.load(std::memory_order_acquire) >= options_.max_labels;
  Series* series = Find(label);
  if (series != nullptr) return *series;
  return all_given_out ? other_ : FindOrAdd(label);
}

StatusCounter::Series* StatusCounter::Find(std::string_view label) const {
  const std::size_t mask = cells_.size() - 1;
  for (std::size_t i = absl::HashOf(label) & mask;; i = (i + 1) & mask) {
    const Label* found = cells_[i].load(std::memory_order_acquire);
    if (found == nullptr) return nullptr;
    if (found->text == label) return found->series;
  }
}

StatusCounter::Series& StatusCounter::FindOrAdd(std::string_view label) {
  const std::lock_guard lock(mutex_);
  if (Series* series = Find(label); series != nullptr) return *series;
  if (labels_.size() >= options_.max_labels) return other_;

  std::string shown = LabelOf(label, options_.shown_as);
  Series* series = &other_;
  if (shown != options_.other) {
    const auto [entry, is_new] = series_by_shown_.try_emplace(std::move(shown), nullptr);
    if (is_new) entry->second = &series_.emplace_back();
    series = entry->second;
  }
  const Label& added = labels_.emplace_back(Label{std::string(label), series});

  const std::size_t mask = cells_.size() - 1;
  std::size_t i = absl::HashOf(label) & mask;
  while (cells_[i].load(std::memory_order_relaxed) != nullptr) i = (i + 1) & mask;
  cells_[i].store(&added, std::memory_order_release);
  tracked_.store(labels_.size(), std::memory_order_release);
  return *series;
}

std::uint64_t StatusCounter::untracked() const {
  Counts counts{};
  other_.AddTo(counts);
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

StatusCounter::Counts StatusCounter::Totals() const {
  Counts totals{};
  other_.AddTo(totals);
  const std::lock_guard lock(mutex_);
  for (const Series& series : series_) series.AddTo(totals);
  return totals;
}

std::optional<StatusCounter::Counts> StatusCounter::CountsOf(std::string_view label) const {
  const Series* const series = Find(label);
  if (series == nullptr || series == &other_) return std::nullopt;
  Counts counts{};
  series->AddTo(counts);
  return counts;
}

std::vector<prometheus::MetricFamily> StatusCounter::Collect() const {
  // Whoever brings a new label waits for no more than this copy.
  const auto shown = [&] {
    const std::lock_guard lock(mutex_);
    std::vector<std::pair<std::string_view, const Series*>> all;
    all.reserve(series_by_shown_.size() + 1);
    for (const auto& [label, series] : series_by_shown_) all.emplace_back(label, series);
    return all;
  }();
  prometheus::MetricFamily family = FamilyOf(options_.metric);
  family.metric.reserve((shown.size() + 1) * statuses().size());
  const auto append = [&](std::string_view label, const Series& series) {
    Counts counts{};
    series.AddTo(counts);
    for (std::size_t i = 0; i < statuses().size(); ++i) {
      family.metric.push_back(
          SampleOf(options_.metric, {label, statuses()[i]}, static_cast<double>(counts[i])));
    }
  };
  for (const auto& [label, series] : shown) append(label, *series);
  append(options_.other, other_);
  return {std::move(family)};
}

}  // namespace ratelimiter
