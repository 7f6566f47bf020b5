#include "deny_cache.h"

#include <algorithm>
#include <string_view>

namespace ratelimiter {
namespace {

// The time in which so many tokens come, rounded up. Neither product is too large
// for a quota that is valid and a number of tokens within its capacity.
std::chrono::microseconds TimeFor(std::uint64_t tokens, const Quota& quota) {
  const auto interval = static_cast<std::uint64_t>(quota.refill_interval.count());
  const std::uint64_t refill = quota.refill_tokens;
  const std::uint64_t rest = (tokens * (interval % refill) + refill - 1) / refill;
  return std::chrono::microseconds(tokens * (interval / refill) + rest);
}

}  // namespace

DenyCache::DenyCache(std::size_t size, std::chrono::microseconds max_age)
    : max_age_(max_age), sets_((size + kWays - 1) / kWays) {}

bool DenyCache::Entry::Is(const Charge& charge, std::size_t hash) const {
  const std::string_view text = key;
  return bucket == hash && text.size() == charge.limit.size() + charge.subject.size() &&
         text.starts_with(charge.limit) && text.ends_with(charge.subject);
}

std::optional<Decision> DenyCache::Find(const Charge& charge, std::size_t bucket,
                                        std::chrono::microseconds now) const {
  const std::lock_guard lock(MutexOf(bucket));
  for (const Entry& entry : SetOf(bucket)) {
    if (!entry.Is(charge, bucket)) continue;
    if (now >= entry.ends || charge.cost < entry.cost || charge.quota != entry.quota) break;
    Decision decision = entry.decision;
    decision.retry_after += TimeFor(charge.cost - entry.cost, charge.quota) - (now - entry.arrived);
    decision.reset_after -= now - entry.arrived;
    return decision;
  }
  return std::nullopt;
}

void DenyCache::Remember(const Charge& charge, std::size_t bucket, const Decision& decision,
                         std::chrono::microseconds asked, std::chrono::microseconds arrived,
                         std::uint64_t forgotten) {
  const auto ends = asked + std::min(decision.retry_after, max_age_);
  if (ends <= arrived) return;
  const std::lock_guard lock(MutexOf(bucket));
  // Under the lock, for Forget counts before it takes it: either this sees that, or
  // Forget finds the entry.
  if (forgotten_.load(std::memory_order_relaxed) != forgotten) return;
  Set& set = SetOf(bucket);
  auto* entry = std::ranges::find_if(
      set, [&](const Entry& candidate) { return candidate.Is(charge, bucket); });
  if (entry == set.end()) entry = std::ranges::min_element(set, {}, &Entry::ends);
  entry->bucket = bucket;
  entry->key.assign(charge.limit).append(charge.subject);
  entry->quota = charge.quota;
  entry->cost = charge.cost;
  entry->decision = decision;
  entry->arrived = arrived;
  entry->ends = ends;
}

void DenyCache::Forget(const Charge& charge, std::size_t bucket) {
  forgotten_.fetch_add(1, std::memory_order_release);
  const std::lock_guard lock(MutexOf(bucket));
  for (Entry& entry : SetOf(bucket)) {
    if (entry.Is(charge, bucket)) entry.ends = {};
  }
}

}  // namespace ratelimiter
