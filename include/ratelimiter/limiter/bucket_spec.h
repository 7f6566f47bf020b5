#pragma once

#include <chrono>
#include <cstdint>

#include <absl/status/status.h>

#include "ratelimiter/base/fraction.h"

namespace ratelimiter {

// The numbers of a token bucket: it holds at most `capacity` tokens and gains
// `refill_tokens` in every `refill_interval`, continuously.
struct BucketSpec {
  std::uint64_t capacity = 0;
  std::uint64_t refill_tokens = 0;
  std::chrono::microseconds refill_interval{0};

  friend bool operator==(const BucketSpec&, const BucketSpec&) = default;
};

inline constexpr std::chrono::microseconds kMinRefillInterval = std::chrono::milliseconds(1);
inline constexpr std::chrono::microseconds kMaxRefillInterval = std::chrono::hours(24 * 30);

// Both capacity × refill_tokens and the time to full in microseconds stay below
// this, so that every number of the decision is exact as a Lua number, which is
// a double (2^53, and a factor of two for sums).
inline constexpr std::uint64_t kExactBound = std::uint64_t{1} << 52U;

// A name for a quota's numbers: equal for equal ones, and for different ones
// seldom so (1 in 2^31).
std::uint32_t Fingerprint(const BucketSpec& spec);

// OK if the quota can be enforced exactly; otherwise INVALID_ARGUMENT, which
// names the number, what it is and what is accepted.
absl::Status Validate(const BucketSpec& spec);

// The numbers of a bucket that has a share of `quota`, which must be valid: it admits
// no more than the share, but for the least that there is, a capacity of 1 and a
// refill of 1 in kMaxRefillInterval. They are valid too.
BucketSpec Scale(const BucketSpec& spec, Fraction fraction);

}  // namespace ratelimiter
