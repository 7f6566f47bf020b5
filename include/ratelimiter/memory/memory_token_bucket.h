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
// A bucket that is full again is forgotten, for a missing bucket is a full one.
// A bucket in use is never forgotten, for it would come back full: where all
// `max_buckets` are in use, one who needs another gets RESOURCE_EXHAUSTED until one is
// full. Decide never waits for longer than another decision takes.
//
// Thread-safe: the buckets are spread over shards, each with a lock of its own;
// a transaction locks those of its buckets.
class MemoryTokenBucket final : public TokenBucketStore {
 public:
  // `max_buckets`: 1 and more. The clock must outlive this.
  MemoryTokenBucket(std::size_t max_buckets, const Clock& clock);
  ~MemoryTokenBucket() override;

  void Decide(std::span<Transaction> transactions, Deadline deadline) override;
  absl::Status Check(Deadline deadline) override;
  std::string Describe() const override { return "memory"; }
  void PublishIn(Metrics& metrics) const override;

  // Buckets held now, and charges that found no room since the start.
  std::size_t buckets() const { return buckets_.load(std::memory_order_relaxed); }
  std::uint64_t rejected() const { return rejected_.load(std::memory_order_relaxed); }

 private:
  struct Shard;
  struct LockedShards;
  struct Change;
  struct Changes;

  absl::Status CarryOut(Transaction& transaction);
  LockedShards Lock(std::span<const Charge> charges) const;
  static Changes DecideAt(std::chrono::microseconds now, Transaction& transaction,
                          const LockedShards& shards, bool room_for_shadows);
  static void Write(const Changes& changes, const Transaction& transaction,
                    const LockedShards& shards);
  bool ReserveRoom(std::chrono::microseconds now);

  // Constant after construction; each shard guards itself.
  const std::size_t max_buckets_;
  const Clock& clock_;
  const std::vector<std::unique_ptr<Shard>> shards_;

  // Buckets held or about to be inserted: never above max_buckets_.
  std::atomic<std::size_t> buckets_{0};
  std::atomic<std::uint64_t> rejected_{0};
};

}  // namespace ratelimiter
