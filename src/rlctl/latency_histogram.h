#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ratelimiter {

// How often each latency occurred, in memory that does not grow: latencies up to
// 255 ns are kept exactly, longer ones to 0.4 % of themselves. Recording is a few
// instructions. Not thread-safe.
class LatencyHistogram {
 public:
  LatencyHistogram();

  // A negative latency counts as none at all.
  void Record(std::chrono::nanoseconds latency);

  std::uint64_t count() const { return count_; }
  // Exact; 0 if nothing was recorded.
  std::chrono::nanoseconds mean() const;
  std::chrono::nanoseconds max() const { return max_; }

  // The least latency that a share of `quantile` (0 to 1) of those recorded does
  // not exceed; 0 if nothing was recorded.
  std::chrono::nanoseconds Quantile(double quantile) const;

  // How many were below `bound`, which is taken to the same 0.4 %.
  std::uint64_t CountBelow(std::chrono::nanoseconds bound) const;

 private:
  std::vector<std::uint64_t> buckets_;
  std::uint64_t count_ = 0;
  double sum_ = 0;
  std::chrono::nanoseconds max_{0};
};

}  // namespace ratelimiter
