#pragma once

#include <chrono>
#include <cstdint>

#include "ratelimiter/limiter/bucket_spec.h"

namespace ratelimiter {

// One token bucket's state, and its refill as plain integer arithmetic: the same
// as token_bucket.lua's, where 128 bits let the products be formed that doubles
// cannot hold.
struct Bucket {
  // Whole tokens when the bucket was last written, and when that was.
  std::uint64_t tokens = 0;
  std::chrono::microseconds time{0};
  // How much of the next token had come by then, in parts of which the refill
  // interval in microseconds make a token. Under other numbers it is worth nothing.
  std::uint64_t part = 0;
  // When it is full if nobody takes from it, under each spec that it was charged under, by
  // what it held then. From then on it may be forgotten.
  std::chrono::microseconds full_at{0};
  // The fingerprint of the numbers that it was last written under.
  std::uint32_t numbers = 0;
};

// The full bucket of `quota` at `now`: what a missing one is.
Bucket FullBucket(const BucketSpec& spec, std::chrono::microseconds now);

// The bucket as it is at `now`, by `quota`; full_at is as it was.
Bucket Refilled(const BucketSpec& spec, const Bucket& bucket, std::chrono::microseconds now);

// Microseconds after the bucket's time until `tokens` further tokens have come.
std::chrono::microseconds WaitFor(const BucketSpec& spec, const Bucket& bucket,
                                  std::uint64_t tokens);

}  // namespace ratelimiter
