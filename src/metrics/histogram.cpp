#include "ratelimiter/metrics/histogram.h"

#include <algorithm>
#include <limits>

namespace ratelimiter {
namespace {

constexpr double kNanosecondsPerSecond = 1e9;

constexpr auto kDurations = std::to_array<std::uint64_t>(
    {50'000, 100'000, 250'000, 500'000, 1'000'000, 2'500'000, 5'000'000, 10'000'000, 25'000'000,
     50'000'000, 100'000'000, 250'000'000, 1'000'000'000});

}  // namespace

Histogram Histogram::OfSeconds() { return Histogram(kDurations, kNanosecondsPerSecond); }

void Histogram::Observe(std::uint64_t number) {
  const auto edge = std::ranges::lower_bound(edges_, number);
  counts_.Add(static_cast<std::size_t>(edge - edges_.begin()));
  counts_.Add(kSum, number);
}

void Histogram::Observe(std::chrono::nanoseconds duration) {
  Observe(static_cast<std::uint64_t>(std::max<std::int64_t>(duration.count(), 0)));
}

std::vector<double> Histogram::Edges() const {
  std::vector<double> edges;
  for (const std::uint64_t edge : edges_) edges.push_back(static_cast<double>(edge) / per_unit_);
  return edges;
}

std::vector<std::uint64_t> Histogram::Counts() const {
  std::vector<std::uint64_t> counts;
  for (std::size_t i = 0; i <= edges_.size(); ++i) counts.push_back(counts_.Total(i));
  return counts;
}

prometheus::ClientMetric Histogram::Sample() const {
  std::vector<double> edges = Edges();
  edges.push_back(std::numeric_limits<double>::infinity());
  const std::vector<std::uint64_t> counts = Counts();

  prometheus::ClientMetric metric;
  prometheus::ClientMetric::Histogram& histogram = metric.histogram;
  std::uint64_t cumulative = 0;
  for (std::size_t i = 0; i < edges.size(); ++i) {
    cumulative += counts[i];
    histogram.bucket.push_back({.cumulative_count = cumulative, .upper_bound = edges[i]});
  }
  histogram.sample_count = cumulative;
  histogram.sample_sum = static_cast<double>(counts_.Total(kSum)) / per_unit_;
  return metric;
}

}  // namespace ratelimiter
