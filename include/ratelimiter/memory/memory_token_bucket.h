#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <absl/status/status.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/limiter/token_bucket_store.h"

namespace ratelimiter {

// Token buckets of this process alone, bounded in number.
//
// A full bucket may be forgotten, because a missing bucket counts as full. A bucket in use is never
// forgotten: while `max_buckets` are in use, a transaction that needs another bucket gets
// RESOURCE_EXHAUSTED. Decide blocks only while other decisions hold the locks that it needs.
//
// Thread-safe. Buckets are spread over shards with one lock each; a transaction holds the locks of
// its buckets' shards.
class MemoryTokenBucket final : public TokenBucketStore {
 public:
  // `max_buckets` is at least 1. The clock must outlive this object.
  MemoryTokenBucket(std::size_t max_buckets, const Clock& clock);
  ~MemoryTokenBucket() override;

  void Decide(std::span<Transaction> transactions, Deadline deadline) override;
  absl::Status Check(Deadline deadline) override;
  std::string Describe() const override { return "memory"; }
  void PublishIn(Metrics& metrics) const override;

  // Buckets held now, and transactions rejected for lack of room since the start.
  std::size_t buckets() const { return buckets_.load(std::memory_order_relaxed); }
  std::uint64_t rejected() const { return rejected_.load(std::memory_order_relaxed); }

 private:
  struct Shard;
  class LockedShards;
  struct Change;
  struct Changes;

  absl::Status DecideOne(Transaction& transaction);
  static Changes DecideAt(std::chrono::microseconds now, Transaction& transaction,
                          const LockedShards& shards, bool room_for_shadows);
  static void Apply(std::chrono::microseconds now, Action action, bool allowed,
                    const Charge& charge, Change& change, Decision& decision);
  static void Write(const Changes& changes, const Transaction& transaction,
                    const LockedShards& shards);
  bool ReserveRoom(std::chrono::microseconds now);

  // Constant after construction; each shard has its own lock.
  const std::size_t max_buckets_;
  const Clock& clock_;
  const std::vector<std::unique_ptr<Shard>> shards_;

  // Buckets held or about to be inserted; never above max_buckets_.
  std::atomic<std::size_t> buckets_{0};
  std::atomic<std::uint64_t> rejected_{0};
};

}  // namespace ratelimiter
