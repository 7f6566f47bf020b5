#include "ratelimiter/resilience/deny_cache.h"

#include <algorithm>
#include <string_view>

#include "ratelimiter/base/uint128.h"

namespace ratelimiter {
namespace {

// The time in which so many tokens come, if that is a whole number of
// microseconds. No product is too large for a quota that is valid and a number of
// tokens within its capacity.
std::optional<std::chrono::microseconds> TimeFor(std::uint64_t tokens, const BucketSpec& spec) {
  const auto interval = static_cast<std::uint64_t>(spec.refill_interval.count());
  const std::uint64_t refill = spec.refill_tokens;
  const std::uint64_t rest = tokens * (interval % refill);
  if (rest % refill != 0) return std::nullopt;
  return std::chrono::microseconds(tokens * (interval / refill) + rest / refill);
}

// How many tokens come within `wait`, which was rounded up to the microsecond: the
// last one at its end. None: the rounding leaves two numbers possible.
std::optional<std::uint64_t> TokensWithin(std::chrono::microseconds wait, const BucketSpec& spec) {
  const auto interval = static_cast<uint128>(spec.refill_interval.count());
  const uint128 parts = static_cast<uint128>(wait.count()) * spec.refill_tokens;
  const uint128 at_most = (parts + interval - 1) / interval;
  const uint128 at_least = (parts - spec.refill_tokens) / interval + 1;
  if (at_least != at_most) return std::nullopt;
  return static_cast<std::uint64_t>(at_most);
}

}  // namespace

DenyCache::DenyCache(std::size_t size, std::chrono::microseconds max_age)
    : sets_(max_age > std::chrono::microseconds(0) ? (size + kWays - 1) / kWays : 0),
      max_age_(max_age) {}

bool DenyCache::Entry::Is(const Charge& charge, std::size_t hash) const {
  const std::string_view text = key;
  return bucket == hash && text.size() == charge.limit.size() + charge.bucket_key.size() &&
         text.starts_with(charge.limit) && text.ends_with(charge.bucket_key);
}

DenyCache::Entry* DenyCache::EntryOf(const Charge& charge, std::size_t bucket) const {
  for (Entry& entry : SetOf(bucket)) {
    if (entry.Is(charge, bucket)) return &entry;
  }
  return nullptr;
}

std::optional<Decision> DenyCache::Find(const Charge& charge, std::size_t bucket,
                                        std::chrono::microseconds now) const {
  if (!remembers()) return std::nullopt;
  const std::lock_guard lock(MutexOf(bucket));
  const Entry* const entry = EntryOf(charge, bucket);
  if (entry == nullptr || now >= entry->ends || charge.cost < entry->cost ||
      charge.spec != entry->spec) {
    return std::nullopt;
  }
  // What the store would answer, to the microsecond and the token; where that
  // cannot be told from what was rounded, the store is asked.
  // (Whoever began to ask before it arrived gets it as it came.)
  const auto since = std::max(now - entry->arrived, std::chrono::microseconds(0));
  const auto wait = entry->decision.retry_after - since;
  const auto missing = TokensWithin(wait, charge.spec);
  const auto longer = TimeFor(charge.cost - entry->cost, charge.spec);
  if (!missing.has_value() || !longer.has_value()) return std::nullopt;
  return Decision{.allowed = false,
                  .remaining = entry->cost - *missing,
                  .retry_after = wait + *longer,
                  .reset_after = entry->decision.reset_after - since};
}

void DenyCache::Note(const Charge& charge, std::size_t bucket, const Decision& decision,
                     std::chrono::microseconds asked, std::chrono::microseconds arrived,
                     std::uint64_t forgotten) {
  if (!remembers()) return;
  const std::lock_guard lock(MutexOf(bucket));
  Entry* entry = EntryOf(charge, bucket);
  if (decision.allowed) {
    if (entry != nullptr) entry->ends = {};
    return;
  }
  const auto ends = asked + std::min(decision.retry_after, max_age_);
  // The count is read under the lock, which Forget takes after counting: either
  // it is seen here, or Forget finds the entry.
  if (ends <= arrived || forgotten_.load(std::memory_order_relaxed) != forgotten) return;
  if (entry == nullptr) entry = std::ranges::min_element(SetOf(bucket), {}, &Entry::ends);
  entry->bucket = bucket;
  entry->key.assign(charge.limit).append(charge.bucket_key);
  entry->spec = charge.spec;
  entry->cost = charge.cost;
  entry->decision = decision;
  entry->arrived = arrived;
  entry->ends = ends;
}

void DenyCache::Forget(const Charge& charge, std::size_t bucket) {
  if (!remembers()) return;
  forgotten_.fetch_add(1, std::memory_order_release);
  const std::lock_guard lock(MutexOf(bucket));
  if (Entry* const entry = EntryOf(charge, bucket); entry != nullptr) entry->ends = {};
}

}  // namespace ratelimiter
