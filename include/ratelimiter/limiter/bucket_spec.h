#pragma once

#include <chrono>
#include <cstdint>

#include <absl/status/status.h>

#include "ratelimiter/base/fraction.h"

namespace ratelimiter {

// Parameters of a token bucket: it holds up to `capacity` tokens and gains `refill_tokens` per
// `refill_interval`, continuously.
struct BucketSpec {
  std::uint64_t capacity = 0;
  std::uint64_t refill_tokens = 0;
  std::chrono::microseconds refill_interval{0};

  friend bool operator==(const BucketSpec&, const BucketSpec&) = default;
};

inline constexpr std::chrono::microseconds kMinRefillInterval = std::chrono::milliseconds(1);
inline constexpr std::chrono::microseconds kMaxRefillInterval = std::chrono::hours(24 * 366);

// Bound on capacity × refill_tokens and on the time to full in microseconds. Below it every value
// that a decision computes is exact in a Lua number, a double (2^53, with a factor of two left for
// sums).
inline constexpr std::uint64_t kExactBound = std::uint64_t{1} << 52U;

// A hash that names the spec. Two different specs collide with a probability of 2^-31.
std::uint32_t Fingerprint(const BucketSpec& spec);

// OK if the spec can be enforced exactly. Otherwise INVALID_ARGUMENT, which names the parameter,
// its value and the accepted range.
absl::Status Validate(const BucketSpec& spec);

// The spec of a bucket with a fraction of `spec`'s capacity and rate, rounded down, but at least a
// capacity of 1 and a refill of 1 per kMaxRefillInterval. Valid if `spec` is, which is required.
BucketSpec Scale(const BucketSpec& spec, Fraction fraction);

}  // namespace ratelimiter
