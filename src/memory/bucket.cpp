#include "bucket.h"

#include <algorithm>

#include "ratelimiter/base/uint128.h"

namespace ratelimiter {
namespace {

std::uint64_t Interval(const BucketSpec& spec) {
  return static_cast<std::uint64_t>(spec.refill_interval.count());
}

}  // namespace

std::chrono::microseconds WaitFor(const BucketSpec& spec, const Bucket& bucket,
                                  std::uint64_t tokens) {
  // A token consists of Interval(spec) parts, of which refill_tokens come every microsecond.
  const uint128 parts = uint128{tokens} * Interval(spec);
  if (parts <= bucket.part) return std::chrono::microseconds(0);
  const uint128 wait = (parts - bucket.part + spec.refill_tokens - 1) / spec.refill_tokens;
  return std::chrono::microseconds(static_cast<std::int64_t>(wait));
}

Bucket Refilled(const BucketSpec& spec, const Bucket& bucket, std::chrono::microseconds now) {
  Bucket result = bucket;
  result.time = now;
  result.spec = Fingerprint(spec);
  result.tokens = std::min(bucket.tokens, spec.capacity);
  if (bucket.spec != result.spec) result.part = 0;

  const auto elapsed = std::max(now - bucket.time, std::chrono::microseconds(0));
  const uint128 parts =
      result.part + uint128{static_cast<std::uint64_t>(elapsed.count())} * spec.refill_tokens;
  const uint128 earned = parts / Interval(spec);
  if (earned >= spec.capacity - result.tokens) {
    result.tokens = spec.capacity;
    result.part = 0;
  } else {
    result.tokens += static_cast<std::uint64_t>(earned);
    result.part = static_cast<std::uint64_t>(parts % Interval(spec));
  }
  return result;
}

Bucket FullBucket(const BucketSpec& spec, std::chrono::microseconds now) {
  return {.tokens = spec.capacity, .time = now, .full_at = now, .spec = Fingerprint(spec)};
}

}  // namespace ratelimiter
