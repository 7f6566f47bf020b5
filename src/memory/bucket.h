#pragma once

#include <chrono>
#include <cstdint>

#include "ratelimiter/limiter/limit.h"
#include "ratelimiter/limiter/token_bucket_store.h"

namespace ratelimiter {

// One token bucket's state, and the decision as plain integer arithmetic: the
// same as token_bucket.lua, where 128 bits let the products be formed that
// doubles cannot hold.
struct Bucket {
  // Whole tokens when the bucket was last written, and when that was.
  std::uint64_t tokens = 0;
  std::chrono::microseconds time{0};
  // How much of the next token had come by then: `part` of `interval` parts.
  // Under another refill interval it is worth nothing.
  std::uint64_t part = 0;
  std::chrono::microseconds interval{0};
  // When it is full if nobody takes from it; from then on it may be forgotten.
  std::chrono::microseconds full_at{0};
};

// The full bucket of `limit` at `now`: what a missing one is.
Bucket FullBucket(const Limit& limit, std::chrono::microseconds now);

// Decides `charge` at `now`. `bucket` changes only if the charge takes: when it
// is allowed, or when time has stepped back behind the bucket's.
Decision Decide(const Limit& limit, Charge charge, std::chrono::microseconds now, Bucket& bucket);

}  // namespace ratelimiter
