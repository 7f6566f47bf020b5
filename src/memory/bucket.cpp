#include "bucket.h"

#include <algorithm>

#include "ratelimiter/base/uint128.h"

namespace ratelimiter {
namespace {

std::uint64_t Interval(const Quota& quota) {
  return static_cast<std::uint64_t>(quota.refill_interval.count());
}

}  // namespace

std::chrono::microseconds WaitFor(const Quota& quota, const Bucket& bucket, std::uint64_t tokens) {
  // A token is Interval parts, and refill_tokens parts come every microsecond.
  const uint128 parts = uint128{tokens} * Interval(quota);
  if (parts <= bucket.part) return std::chrono::microseconds(0);
  const uint128 wait = (parts - bucket.part + quota.refill_tokens - 1) / quota.refill_tokens;
  return std::chrono::microseconds(static_cast<std::int64_t>(wait));
}

Bucket Refilled(const Quota& quota, const Bucket& bucket, std::chrono::microseconds now) {
  Bucket result = bucket;
  result.time = now;
  result.numbers = Fingerprint(quota);
  result.tokens = std::min(bucket.tokens, quota.capacity);
  if (bucket.numbers != result.numbers) result.part = 0;

  const auto elapsed = std::max(now - bucket.time, std::chrono::microseconds(0));
  const uint128 parts =
      result.part + uint128{static_cast<std::uint64_t>(elapsed.count())} * quota.refill_tokens;
  const uint128 earned = parts / Interval(quota);
  if (earned >= quota.capacity - result.tokens) {
    result.tokens = quota.capacity;
    result.part = 0;
  } else {
    result.tokens += static_cast<std::uint64_t>(earned);
    result.part = static_cast<std::uint64_t>(parts % Interval(quota));
  }
  return result;
}

Bucket FullBucket(const Quota& quota, std::chrono::microseconds now) {
  return {.tokens = quota.capacity, .time = now, .full_at = now, .numbers = Fingerprint(quota)};
}

}  // namespace ratelimiter
