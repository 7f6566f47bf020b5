#include "ratelimiter/memory/memory_token_bucket.h"

#include <mutex>

#include <absl/hash/hash.h>
#include <fmt/format.h>

#include "bucket.h"
#include "bucket_table.h"

namespace ratelimiter {
namespace {

// Far more than the threads that decide at once, so that they seldom meet.
constexpr std::size_t kShards = 64;

// Full buckets that a charge forgets on its way: more than the one it may add,
// so that those left behind by a busy hour go when it is over.
constexpr int kForgetPerCharge = 2;

}  // namespace

struct MemoryTokenBucket::Shard {
  std::mutex mutex;
  BucketTable table;  // Guarded by mutex.
};

MemoryTokenBucket::MemoryTokenBucket(std::size_t max_buckets, const Clock& clock)
    : max_buckets_(max_buckets), clock_(clock), shards_([] {
        std::vector<std::unique_ptr<Shard>> shards(kShards);
        for (auto& shard : shards) shard = std::make_unique<Shard>();
        return shards;
      }()) {}

MemoryTokenBucket::~MemoryTokenBucket() = default;

absl::StatusOr<Decision> MemoryTokenBucket::Decide(const Limit& limit, std::string_view subject,
                                                   Charge charge, Deadline /*deadline*/) {
  Shard& shard = ShardOf(subject);
  bool reserved = false;
  while (true) {
    std::chrono::microseconds now{0};
    {
      const std::lock_guard lock(shard.mutex);
      // Read under the lock: decisions on one bucket are in the clock's order.
      now = clock_.Now();
      for (int i = 0; i < kForgetPerCharge && shard.table.ForgetFull(now); ++i) --buckets_;

      const auto slot = shard.table.Find(limit.name, subject);
      Bucket bucket = slot.has_value() ? shard.table.bucket(*slot) : FullBucket(limit, now);
      const Decision decision = ratelimiter::Decide(limit, charge, now, bucket);
      const bool is_new = !slot.has_value() && bucket.full_at > now;
      if (!is_new || reserved) {
        if (slot.has_value()) {
          shard.table.Update(*slot, bucket);
        } else if (is_new) {
          shard.table.Insert(limit.name, subject, bucket);
          reserved = false;
        }
        if (reserved) --buckets_;  // Somebody else brought this subject meanwhile.
        return decision;
      }
    }
    // A new bucket needs room first. Other shards may be asked for it, so this
    // one's lock is not held: two locks at once could wait for each other.
    if (!ReserveRoom(now)) {
      rejected_.fetch_add(1, std::memory_order_relaxed);
      return absl::ResourceExhaustedError(fmt::format(
          "all {} buckets are in use, and forgetting one would give its user a full bucket "
          "again; raise MEMORY_MAX_BUCKETS or use STORE=redis",
          max_buckets_));
    }
    reserved = true;
  }
}

absl::Status MemoryTokenBucket::Check(Deadline /*deadline*/) { return absl::OkStatus(); }

MemoryTokenBucket::Shard& MemoryTokenBucket::ShardOf(std::string_view subject) const {
  return *shards_[absl::HashOf(subject) % kShards];
}

// Makes buckets_ count one more bucket: a new one while there is room, or one
// that replaces a full bucket of any shard. False: all are in use.
bool MemoryTokenBucket::ReserveRoom(std::chrono::microseconds now) {
  std::size_t held = buckets_.load();
  while (held < max_buckets_) {
    if (buckets_.compare_exchange_weak(held, held + 1)) return true;
  }
  for (const auto& shard : shards_) {
    const std::lock_guard lock(shard->mutex);
    if (shard->table.ForgetFull(now)) return true;
  }
  return false;
}

}  // namespace ratelimiter
