#include "ratelimiter/memory/memory_token_bucket.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <optional>
#include <utility>

#include <absl/container/inlined_vector.h>
#include <absl/hash/hash.h>
#include <fmt/format.h>

#include "bucket.h"
#include "bucket_table.h"
#include "ratelimiter/base/mutex.h"
#include "ratelimiter/metrics/metrics.h"

namespace ratelimiter {
namespace {

// Far more than threads that decide at once, so that they seldom contend.
constexpr std::size_t kShards = 64;

// Full buckets that a transaction forgets per charge. More than the one that it may add, so that
// the buckets of a busy hour go away after it.
constexpr int kForgetPerCharge = 2;
// Candidates that each of these checks for a full one.
constexpr std::size_t kMaxChecks = 4;

}  // namespace

struct MemoryTokenBucket::Shard {
  explicit Shard(std::size_t place) : number(place) {}

  const std::size_t number;
  Mutex mutex;
  BucketTable table GUARDED_BY(mutex);
};

// Holds the locks of a transaction's shards.
class MemoryTokenBucket::LockedShards {
 public:
  LockedShards(std::span<const std::unique_ptr<Shard>> shards, std::span<const Charge> charges) {
    for (const Charge& charge : charges) {
      by_charge_.push_back(shards[absl::HashOf(charge.bucket_key) % kShards].get());
    }
    // In a fixed order, so that no two transactions wait for each other.
    absl::InlinedVector<Shard*, 4> in_order = by_charge_;
    std::ranges::sort(in_order, {}, &Shard::number);
    in_order.erase(std::unique(in_order.begin(), in_order.end()), in_order.end());
    for (Shard* shard : in_order) locks_.emplace_back(shard->mutex);
  }

  std::size_t size() const { return by_charge_.size(); }

  // The table of a charge's bucket. The analysis cannot see that locks_ holds its mutex.
  BucketTable& table(std::size_t charge) const NO_THREAD_SAFETY_ANALYSIS {
    return by_charge_[charge]->table;
  }

 private:
  absl::InlinedVector<Shard*, 4> by_charge_;
  absl::InlinedVector<std::unique_lock<Mutex>, 4> locks_;
};

// The effect of one charge on its bucket.
struct MemoryTokenBucket::Change {
  std::optional<BucketTable::Slot> slot;  // None: a new bucket.
  Bucket stored;                          // Before the charge.
  Bucket bucket;                          // After the charge.
  bool written = false;
};

struct MemoryTokenBucket::Changes {
  absl::InlinedVector<Change, 4> buckets;
  std::size_t new_buckets = 0;
};

MemoryTokenBucket::MemoryTokenBucket(std::size_t max_buckets, const Clock& clock)
    : max_buckets_(max_buckets), clock_(clock), shards_([] {
        std::vector<std::unique_ptr<Shard>> shards(kShards);
        for (std::size_t i = 0; i < kShards; ++i) shards[i] = std::make_unique<Shard>(i);
        return shards;
      }()) {}

MemoryTokenBucket::~MemoryTokenBucket() = default;

void MemoryTokenBucket::Decide(std::span<Transaction> transactions, Deadline /*deadline*/) {
  for (Transaction& transaction : transactions) transaction.status = DecideOne(transaction);
}

absl::Status MemoryTokenBucket::DecideOne(Transaction& transaction) {
  std::size_t reserved = 0;
  bool room_for_shadows = true;
  while (true) {
    std::size_t needed = 0;
    std::chrono::microseconds now{0};
    {
      const LockedShards shards(shards_, transaction.charges);
      // Read under the locks, so that decisions on one bucket are in the clock's order.
      now = clock_.Now();
      for (std::size_t i = 0; i < shards.size(); ++i) {
        for (int j = 0; j < kForgetPerCharge && shards.table(i).ForgetFull(now, kMaxChecks); ++j)
          --buckets_;
      }
      const Changes changes = DecideAt(now, transaction, shards, room_for_shadows);
      needed = changes.new_buckets;
      if (needed <= reserved) {
        Write(changes, transaction, shards);
        buckets_ -= reserved - needed;  // Others have added these buckets meanwhile.
        return absl::OkStatus();
      }
    }
    // New buckets need room first, which may come from any shard. No lock is held meanwhile, or two
    // transactions could wait for each other.
    for (; reserved < needed; ++reserved) {
      if (ReserveRoom(now)) continue;
      // Shadows fail no call: without room they are decided but not stored.
      if (std::exchange(room_for_shadows, false)) break;
      buckets_ -= reserved;
      rejected_.fetch_add(1, std::memory_order_relaxed);
      return absl::ResourceExhaustedError(
          fmt::format("all {} buckets are in use; raise MEMORY_MAX_BUCKETS", max_buckets_));
    }
  }
}

MemoryTokenBucket::Changes MemoryTokenBucket::DecideAt(std::chrono::microseconds now,
                                                       Transaction& transaction,
                                                       const LockedShards& shards,
                                                       bool room_for_shadows) {
  Changes changes;
  for (std::size_t i = 0; i < transaction.charges.size(); ++i) {
    const Charge& charge = transaction.charges[i];
    const BucketTable& table = shards.table(i);
    const auto slot = table.Find(charge.limit, charge.bucket_key);
    const Bucket stored = slot.has_value() ? table.bucket(*slot) : FullBucket(charge.spec, now);
    changes.buckets.push_back(
        {.slot = slot, .stored = stored, .bucket = Refilled(charge.spec, stored, now)});
    // Every field is set: a store that failed before may have left a partial decision.
    transaction.decisions[i] = {.allowed = transaction.action == Action::kRefund ||
                                           charge.cost <= changes.buckets[i].bucket.tokens};
  }
  const bool allowed = transaction.allowed();

  for (std::size_t i = 0; i < transaction.charges.size(); ++i) {
    const Charge& charge = transaction.charges[i];
    Change& change = changes.buckets[i];
    Apply(now, transaction.action, allowed, charge, change, transaction.decisions[i]);
    if (change.slot.has_value()) continue;
    if (charge.shadow && !room_for_shadows) change.written = false;
    if (change.written) ++changes.new_buckets;
  }
  return changes;
}

// Completes the change and the decision of one charge in a transaction that is `allowed` or not.
void MemoryTokenBucket::Apply(std::chrono::microseconds now, Action action, bool allowed,
                              const Charge& charge, Change& change, Decision& decision) {
  const Bucket& stored = change.stored;
  Bucket& bucket = change.bucket;
  const bool takes = action == Action::kTake && charge.cost > 0;
  const auto stepped_back = std::max(stored.time - now, std::chrono::microseconds(0));
  bool filled = false;
  if (action == Action::kRefund) {
    bucket.tokens += charge.cost;
    filled = bucket.tokens >= charge.spec.capacity;
    if (filled) {
      bucket.tokens = charge.spec.capacity;
      bucket.part = 0;
    }
    change.written = change.slot.has_value();
  } else if (takes && allowed && decision.allowed) {
    bucket.tokens -= charge.cost;
    change.written = true;
  } else {
    change.written = takes && stepped_back.count() > 0;
  }

  decision.remaining = bucket.tokens;
  decision.retry_after = decision.allowed
                             ? std::chrono::microseconds(0)
                             : WaitFor(charge.spec, bucket, charge.cost - bucket.tokens);
  decision.reset_after = WaitFor(charge.spec, bucket, charge.spec.capacity - bucket.tokens);
  bucket.full_at = now + decision.reset_after;
  // Under another spec the bucket may be full later, unless a refund has filled it.
  if (!filled) bucket.full_at = std::max(bucket.full_at, stored.full_at - stepped_back);

  if (takes && !change.written && bucket.full_at > stored.full_at) {
    // A refusal under another spec than the stored one. It extends the bucket's life, because a
    // forgotten bucket would come back full before the waits of this decision are over. The rest
    // stays unchanged: otherwise refusals under two specs in turns would drop each other's fraction
    // of a token, and neither would ever earn one.
    const auto full_at = bucket.full_at;
    bucket = stored;
    bucket.full_at = full_at;
    change.written = change.slot.has_value();
  }
}

void MemoryTokenBucket::Write(const Changes& changes, const Transaction& transaction,
                              const LockedShards& shards) {
  for (std::size_t i = 0; i < changes.buckets.size(); ++i) {
    const Change& change = changes.buckets[i];
    const Charge& charge = transaction.charges[i];
    if (!change.written) continue;
    BucketTable& table = shards.table(i);
    if (change.slot.has_value()) {
      table.Update(*change.slot, change.bucket);
    } else {
      table.Insert(charge.limit, charge.bucket_key, change.bucket);
    }
  }
}

absl::Status MemoryTokenBucket::Check(Deadline /*deadline*/) { return absl::OkStatus(); }

void MemoryTokenBucket::PublishIn(Metrics& metrics) const {
  metrics.Publish(Metric::kMemoryBuckets, [this] { return buckets(); });
  metrics.Publish(Metric::kMemoryRejected, [this] { return rejected(); });
}

// Counts one more bucket in buckets_: a new one while there is room, or one that replaces a full
// bucket of any shard. False: all are in use.
bool MemoryTokenBucket::ReserveRoom(std::chrono::microseconds now) {
  std::size_t held = buckets_.load();
  while (held < max_buckets_) {
    if (buckets_.compare_exchange_weak(held, held + 1)) return true;
  }
  for (const auto& shard : shards_) {
    const MutexLock lock(shard->mutex);
    constexpr auto kAll = std::numeric_limits<std::size_t>::max();
    if (shard->table.ForgetFull(now, kAll)) return true;
  }
  return false;
}

}  // namespace ratelimiter
