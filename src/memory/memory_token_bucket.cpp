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
#include "ratelimiter/metrics/metrics.h"

namespace ratelimiter {
namespace {

// Far more than the threads that decide at once, so that they seldom meet.
constexpr std::size_t kShards = 64;

// Full buckets that a charge forgets on its way: more than the one it may add,
// so that those left behind by a busy hour go when it is over.
constexpr int kForgetPerCharge = 2;
// How many that may be full it looks at for one that is.
constexpr std::size_t kLooks = 4;

}  // namespace

struct MemoryTokenBucket::Shard {
  explicit Shard(std::size_t place) : number(place) {}

  const std::size_t number;
  std::mutex mutex;
  BucketTable table;  // Guarded by mutex.
};

// The shards of a transaction's buckets, by charge, and their locks.
struct MemoryTokenBucket::LockedShards {
  absl::InlinedVector<Shard*, 4> of_charge;
  absl::InlinedVector<std::unique_lock<std::mutex>, 4> locks;
};

// What becomes of one charge's bucket.
struct MemoryTokenBucket::Change {
  std::optional<BucketTable::Slot> slot;
  Bucket stored;  // Before the charge.
  Bucket bucket;  // After the charge.
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
  for (Transaction& transaction : transactions) transaction.status = CarryOut(transaction);
}

absl::Status MemoryTokenBucket::CarryOut(Transaction& transaction) {
  std::size_t reserved = 0;
  bool room_for_shadows = true;
  while (true) {
    std::size_t needed = 0;
    std::chrono::microseconds now{0};
    {
      const LockedShards shards = Lock(transaction.charges);
      // Read under the locks: decisions on one bucket are in the clock's order.
      now = clock_.Now();
      for (Shard* shard : shards.of_charge) {
        for (int i = 0; i < kForgetPerCharge && shard->table.ForgetFull(now, kLooks); ++i)
          --buckets_;
      }
      Changes changes = DecideAt(now, transaction, shards, room_for_shadows);
      needed = changes.new_buckets;
      if (needed <= reserved) {
        Write(changes, transaction, shards);
        buckets_ -= reserved - needed;  // Others brought these buckets meanwhile.
        return absl::OkStatus();
      }
    }
    // New buckets need room first. Other shards may be asked for it, so that no
    // lock is held: else two transactions could wait for each other's.
    for (; reserved < needed; ++reserved) {
      if (ReserveRoom(now)) continue;
      // Shadows fail no call: those that would need a bucket go without.
      if (std::exchange(room_for_shadows, false)) break;
      buckets_ -= reserved;
      rejected_.fetch_add(1, std::memory_order_relaxed);
      return absl::ResourceExhaustedError(fmt::format(
          "all {} buckets are in use, and forgetting one would give its user a full bucket "
          "again; raise MEMORY_MAX_BUCKETS",
          max_buckets_));
    }
  }
}

MemoryTokenBucket::LockedShards MemoryTokenBucket::Lock(std::span<const Charge> charges) const {
  LockedShards result;
  for (const Charge& charge : charges) {
    result.of_charge.push_back(shards_[absl::HashOf(charge.bucket_key) % kShards].get());
  }
  // All in one order, so that no two transactions wait for each other.
  absl::InlinedVector<Shard*, 4> in_order = result.of_charge;
  std::ranges::sort(in_order, {}, &Shard::number);
  const auto repeated = std::ranges::unique(in_order);
  in_order.erase(repeated.begin(), repeated.end());
  for (Shard* shard : in_order) result.locks.emplace_back(shard->mutex);
  return result;
}

MemoryTokenBucket::Changes MemoryTokenBucket::DecideAt(std::chrono::microseconds now,
                                                       Transaction& transaction,
                                                       const LockedShards& shards,
                                                       bool room_for_shadows) {
  Changes changes;
  for (std::size_t i = 0; i < transaction.charges.size(); ++i) {
    const Charge& charge = transaction.charges[i];
    const BucketTable& table = shards.of_charge[i]->table;
    const auto slot = table.Find(charge.limit, charge.bucket_key);
    const Bucket stored = slot.has_value() ? table.bucket(*slot) : FullBucket(charge.spec, now);
    changes.buckets.push_back(
        {.slot = slot, .stored = stored, .bucket = Refilled(charge.spec, stored, now)});
    // Whole, for another store may have failed to fill it in.
    transaction.decisions[i] = {.allowed = transaction.action == Action::kRefund ||
                                           charge.cost <= changes.buckets[i].bucket.tokens};
  }
  const bool allowed = transaction.allowed();

  for (std::size_t i = 0; i < transaction.charges.size(); ++i) {
    const Charge& charge = transaction.charges[i];
    Decision& decision = transaction.decisions[i];
    Change& change = changes.buckets[i];
    Bucket& bucket = change.bucket;
    const bool takes = transaction.action == Action::kTake && charge.cost > 0;
    const bool refunds = transaction.action == Action::kRefund;
    const auto stepped_back = std::max(change.stored.time - now, std::chrono::microseconds(0));
    if (refunds) {
      bucket.tokens += charge.cost;
      if (bucket.tokens >= charge.spec.capacity) {
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
    // Under another spec it may be full later; not if a refund filled it.
    if (!refunds || bucket.tokens < charge.spec.capacity) {
      bucket.full_at = std::max(bucket.full_at, change.stored.full_at - stepped_back);
    }
    if (takes && !change.written && change.slot.has_value()) {
      // A refusal keeps the bucket until it is full under this spec, or it would come back full
      // before the waits that are told now are over. What it holds stays: refusals under two
      // specs in turns would else drop each other's fraction of a token, and neither would ever
      // earn one.
      change.written = bucket.full_at > change.stored.full_at;
      bucket = {.tokens = change.stored.tokens,
                .time = change.stored.time,
                .part = change.stored.part,
                .full_at = bucket.full_at,
                .numbers = change.stored.numbers};
    }
    if (change.slot.has_value()) continue;
    if (charge.shadow && !room_for_shadows) change.written = false;
    if (change.written) ++changes.new_buckets;
  }
  return changes;
}

void MemoryTokenBucket::Write(const Changes& changes, const Transaction& transaction,
                              const LockedShards& shards) {
  for (std::size_t i = 0; i < changes.buckets.size(); ++i) {
    const Change& change = changes.buckets[i];
    const Charge& charge = transaction.charges[i];
    if (!change.written) continue;
    BucketTable& table = shards.of_charge[i]->table;
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

// Makes buckets_ count one more bucket: a new one while there is room, or one
// that replaces a full bucket of any shard. False: all are in use.
bool MemoryTokenBucket::ReserveRoom(std::chrono::microseconds now) {
  std::size_t held = buckets_.load();
  while (held < max_buckets_) {
    if (buckets_.compare_exchange_weak(held, held + 1)) return true;
  }
  for (const auto& shard : shards_) {
    const std::lock_guard lock(shard->mutex);
    constexpr auto kAll = std::numeric_limits<std::size_t>::max();
    if (shard->table.ForgetFull(now, kAll)) return true;
  }
  return false;
}

}  // namespace ratelimiter
