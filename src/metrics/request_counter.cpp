#include "ratelimiter/metrics/request_counter.h"

#include <bit>

#include <absl/hash/hash.h>
#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>

#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

constexpr std::string_view kOther = "__other__";
constexpr std::size_t kMaxLabelBytes = 128;
constexpr std::array<const char*, 3> kStatusNames = {"allowed", "denied", "error"};

}  // namespace

RequestCounter::RequestCounter(std::size_t max_users)
    : max_users_(max_users), cells_(std::bit_ceil(2 * max_users + 2)) {}

void RequestCounter::Count(std::string_view user, RequestStatus status) {
  // Looked at before the table, which is never written again from then on.
  const bool all_given_out = tracked_users_.load(std::memory_order_acquire) >= max_users_;
  Series* series = Find(user);
  if (series == nullptr) series = all_given_out ? &other_ : &FindOrAdd(user);
  series->Add(status);
}

void RequestCounter::CountUnnamed(RequestStatus status) { other_.Add(status); }

RequestCounter::Series* RequestCounter::Find(std::string_view user) const {
  const std::size_t mask = cells_.size() - 1;
  for (std::size_t i = absl::HashOf(user) & mask;; i = (i + 1) & mask) {
    const User* found = cells_[i].load(std::memory_order_acquire);
    if (found == nullptr) return nullptr;
    if (found->id == user) return found->series;
  }
}

RequestCounter::Series& RequestCounter::FindOrAdd(std::string_view user) {
  const std::lock_guard lock(mutex_);
  if (Series* series = Find(user); series != nullptr) return *series;
  if (users_.size() >= max_users_) return other_;

  std::string label = Printable(user, kMaxLabelBytes);
  Series* series = &other_;
  if (label != kOther) {
    const auto [entry, is_new] = series_by_label_.try_emplace(std::move(label), nullptr);
    if (is_new) entry->second = &series_.emplace_back();
    series = entry->second;
  }
  const User& added = users_.emplace_back(User{std::string(user), series});

  const std::size_t mask = cells_.size() - 1;
  std::size_t i = absl::HashOf(user) & mask;
  while (cells_[i].load(std::memory_order_relaxed) != nullptr) i = (i + 1) & mask;
  cells_[i].store(&added, std::memory_order_release);
  tracked_users_.store(users_.size(), std::memory_order_release);
  return *series;
}

std::vector<prometheus::MetricFamily> RequestCounter::Collect() const {
  prometheus::MetricFamily family;
  family.name = "rate_limiter_requests_total";
  family.help = "Requests decided, by user and status (allowed, denied, error)";
  family.type = prometheus::MetricType::Counter;

  const auto append = [&family](std::string_view label, const Series& series) {
    for (std::size_t i = 0; i < kStatusNames.size(); ++i) {
      prometheus::ClientMetric metric;
      metric.label = {{"user", std::string(label)}, {"status", kStatusNames[i]}};
      metric.counter.value =
          static_cast<double>(series.by_status[i].load(std::memory_order_relaxed));
      family.metric.push_back(std::move(metric));
    }
  };
  const std::lock_guard lock(mutex_);
  for (const auto& [label, series] : series_by_label_) append(label, *series);
  append(kOther, other_);
  return {std::move(family)};
}

}  // namespace ratelimiter
