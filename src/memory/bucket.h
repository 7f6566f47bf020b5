#pragma once

#include <chrono>
#include <cstdint>

#include "ratelimiter/limiter/bucket_spec.h"

namespace ratelimiter {

// The state of one token bucket. The functions below are the same arithmetic as token_bucket.lua,
// with 128-bit products where Lua's doubles need a split.
struct Bucket {
  // Whole tokens at `time`, the last write.
  std::uint64_t tokens = 0;
  std::chrono::microseconds time{0};
  // The fraction of the next token at `time`. The refill interval in microseconds is the number of
  // parts in a token, so that the fraction is void under another spec.
  std::uint64_t part = 0;
  // When the bucket is full under every spec that it was charged under, if nobody takes from it.
  // From then on it may be forgotten.
  std::chrono::microseconds full_at{0};
  // Fingerprint of the spec of the last write.
  std::uint32_t spec = 0;
};

// A full bucket, which is what a missing one counts as.
Bucket FullBucket(const BucketSpec& spec, std::chrono::microseconds now);

// The bucket refilled to `now` under `spec`; full_at is unchanged.
Bucket Refilled(const BucketSpec& spec, const Bucket& bucket, std::chrono::microseconds now);

// Time from the bucket's time until it has gained `tokens` more, rounded up.
std::chrono::microseconds WaitFor(const BucketSpec& spec, const Bucket& bucket,
                                  std::uint64_t tokens);

}  // namespace ratelimiter
