#include "bucket.h"

#include <algorithm>

namespace ratelimiter {
namespace {

// GNU's 128-bit integer, which -Wpedantic wants marked.
__extension__ using uint128 = unsigned __int128;

std::uint64_t Interval(const Limit& limit) {
  return static_cast<std::uint64_t>(limit.refill_interval.count());
}

// Microseconds after `bucket.time` until `tokens` further tokens have come.
std::chrono::microseconds WaitFor(const Limit& limit, const Bucket& bucket, std::uint64_t tokens) {
  // A token is Interval parts, and refill_tokens parts come every microsecond.
  const uint128 parts = uint128{tokens} * Interval(limit);
  if (parts <= bucket.part) return std::chrono::microseconds(0);
  const uint128 wait = (parts - bucket.part + limit.refill_tokens - 1) / limit.refill_tokens;
  return std::chrono::microseconds(static_cast<std::int64_t>(wait));
}

// The bucket as it is at `now`.
Bucket Refilled(const Limit& limit, const Bucket& bucket, std::chrono::microseconds now) {
  Bucket result = bucket;
  result.time = now;
  result.interval = limit.refill_interval;
  result.tokens = std::min(bucket.tokens, limit.capacity);
  if (bucket.interval != limit.refill_interval) result.part = 0;

  const auto elapsed = std::max(now - bucket.time, std::chrono::microseconds(0));
  const uint128 parts =
      result.part + uint128{static_cast<std::uint64_t>(elapsed.count())} * limit.refill_tokens;
  const uint128 earned = parts / Interval(limit);
  if (earned >= limit.capacity - result.tokens) return FullBucket(limit, now);
  result.tokens += static_cast<std::uint64_t>(earned);
  result.part = static_cast<std::uint64_t>(parts % Interval(limit));
  return result;
}

}  // namespace

Bucket FullBucket(const Limit& limit, std::chrono::microseconds now) {
  return {.tokens = limit.capacity,
          .time = now,
          .part = 0,
          .interval = limit.refill_interval,
          .full_at = now};
}

Decision Decide(const Limit& limit, Charge charge, std::chrono::microseconds now, Bucket& bucket) {
  Bucket refilled = Refilled(limit, bucket, now);
  const bool allowed = charge.cost <= refilled.tokens;
  if (allowed && charge.take) refilled.tokens -= charge.cost;

  const Decision decision = {
      .allowed = allowed,
      .remaining = refilled.tokens,
      .retry_after = allowed ? std::chrono::microseconds(0)
                             : WaitFor(limit, refilled, charge.cost - refilled.tokens),
      .reset_after = WaitFor(limit, refilled, limit.capacity - refilled.tokens)};
  if (charge.take && charge.cost > 0 && (allowed || bucket.time > now)) {
    bucket = refilled;
    bucket.full_at = now + decision.reset_after;
  }
  return decision;
}

}  // namespace ratelimiter
