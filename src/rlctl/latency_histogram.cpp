#include "latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

namespace ratelimiter {
namespace {

// Each power of two is divided into so many buckets of equal width. Below twice
// that number a bucket is one nanosecond wide.
constexpr int kDivisionBits = 7;
constexpr std::uint64_t kDivisions = 1U << kDivisionBits;

constexpr int WidthBits(std::uint64_t value) {
  return std::max(static_cast<int>(std::bit_width(value)) - (kDivisionBits + 1), 0);
}

constexpr std::size_t BucketOf(std::uint64_t value) {
  const int width_bits = WidthBits(value);
  return (static_cast<std::uint64_t>(width_bits) * kDivisions) + (value >> width_bits);
}

constexpr std::uint64_t MiddleOf(std::size_t bucket) {
  if (bucket < 2 * kDivisions) return bucket;
  const std::uint64_t width_bits = (bucket / kDivisions) - 1;
  const std::uint64_t start = (bucket - (width_bits * kDivisions)) << width_bits;
  return start + ((1ULL << width_bits) / 2);
}

constexpr std::uint64_t kLongest = std::numeric_limits<std::chrono::nanoseconds::rep>::max();

std::uint64_t Nanoseconds(std::chrono::nanoseconds latency) {
  return static_cast<std::uint64_t>(std::max(latency.count(), std::chrono::nanoseconds::rep{0}));
}

}  // namespace

LatencyHistogram::LatencyHistogram() : buckets_(BucketOf(kLongest) + 1) {}

void LatencyHistogram::Record(std::chrono::nanoseconds latency) {
  const std::uint64_t value = Nanoseconds(latency);
  ++buckets_[BucketOf(value)];
  ++count_;
  sum_ += static_cast<double>(value);
  max_ = std::max(max_, latency);
}

std::chrono::nanoseconds LatencyHistogram::mean() const {
  if (count_ == 0) return std::chrono::nanoseconds(0);
  return std::chrono::nanoseconds(std::llround(sum_ / static_cast<double>(count_)));
}

std::chrono::nanoseconds LatencyHistogram::Quantile(double quantile) const {
  if (count_ == 0) return std::chrono::nanoseconds(0);
  const double exact_rank = std::ceil(quantile * static_cast<double>(count_));
  const auto rank = std::clamp<std::uint64_t>(static_cast<std::uint64_t>(exact_rank), 1, count_);
  std::uint64_t seen = 0;
  std::size_t bucket = 0;
  while ((seen += buckets_[bucket]) < rank) ++bucket;
  return std::min(max_, std::chrono::nanoseconds(MiddleOf(bucket)));
}

std::uint64_t LatencyHistogram::CountBelow(std::chrono::nanoseconds bound) const {
  const auto end = static_cast<std::ptrdiff_t>(BucketOf(Nanoseconds(bound)));
  return std::accumulate(buckets_.begin(), buckets_.begin() + end, std::uint64_t{0});
}

}  // namespace ratelimiter
