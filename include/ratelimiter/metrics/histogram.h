#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <prometheus/client_metric.h>

#include "ratelimiter/metrics/striped_counts.h"

namespace ratelimiter {

// How many of the numbers observed lie up to each of some edges, and their sum.
//
// Thread-safe. Observing takes no lock and allocates nothing.
class Histogram {
 public:
  static constexpr std::size_t kMaxEdges = 15;

  // `edges`: ascending, kMaxEdges at most; they are not copied. What is observed is shown
  // divided by `per_unit`.
  explicit Histogram(std::span<const std::uint64_t> edges, double per_unit = 1)
      : edges_(edges), per_unit_(per_unit) {}

  // Of durations, in nanoseconds shown as seconds, from 50 µs to 1 s.
  static Histogram OfSeconds();

  void Observe(std::uint64_t number);
  void Observe(std::chrono::nanoseconds duration);

  // The edges as they are shown; and how many numbers lie up to each and above the one
  // before, and at last above all.
  std::vector<double> Edges() const;
  std::vector<std::uint64_t> Counts() const;

  // Without labels.
  prometheus::ClientMetric Sample() const;

 private:
  // Behind the numbers between the edges, of which the last are above all of them.
  static constexpr std::size_t kSum = kMaxEdges + 1;

  const std::span<const std::uint64_t> edges_;
  const double per_unit_;
  StripedCounts<kMaxEdges + 2> counts_;
};

}  // namespace ratelimiter
