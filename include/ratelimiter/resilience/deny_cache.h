#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "ratelimiter/limiter/bucket_spec.h"
#include "ratelimiter/limiter/token_bucket_store.h"

namespace ratelimiter {

// Buckets that refused lately, and until when they will refuse: what a bucket
// lacks comes at a known time, and until then others can only take from it. So a
// refusal that is known is one that the store would give.
//
// That holds but for what gives a bucket tokens beside its refill: a reset or a
// refund, other numbers, lost data, a clock set forward. This instance's own
// resets and refunds are told by Forget; what another did is found out when an
// entry is `max_age` old.
//
// Thread-safe. An entry takes the place of another that hashes alike and ends
// first, so that it holds `size` at most.
class DenyCache {
 public:
  // `size`: entries, rounded up to whole sets. `max_age` 0: it remembers nothing.
  DenyCache(std::size_t size, std::chrono::microseconds max_age);

  // The refusal of `charge`, if it is known at `now`. `bucket`: its hash.
  std::optional<Decision> Find(const Charge& charge, std::size_t bucket,
                               std::chrono::microseconds now) const;

  // To be read before the store is asked, for Note.
  std::uint64_t forgotten() const { return forgotten_.load(std::memory_order_acquire); }

  // Notes what a bucket said when it was to pay `charge`: that it refused, or, if
  // it did not, that what it said before holds no more. `decision` arrived at
  // `arrived`, after the store was asked at `asked`, when forgotten() was
  // `forgotten`. A Forget since then may have been of this bucket: then a refusal
  // is not remembered.
  void Note(const Charge& charge, std::size_t bucket, const Decision& decision,
            std::chrono::microseconds asked, std::chrono::microseconds arrived,
            std::uint64_t forgotten);

  // Forgets the bucket, for it was given tokens.
  void Forget(const Charge& charge, std::size_t bucket);

 private:
  struct Entry {
    std::size_t bucket = 0;
    std::string key;  // The limit's name and, from its '{' on, the subject.
    BucketSpec spec{};
    std::uint64_t cost = 0;
    Decision decision{};
    std::chrono::microseconds arrived{0};
    std::chrono::microseconds ends{0};

    bool Is(const Charge& charge, std::size_t hash) const;
  };
  // Where a bucket's entry can be.
  static constexpr std::size_t kWays = 4;
  using Set = std::array<Entry, kWays>;

  bool remembers() const { return max_age_ > std::chrono::microseconds(0); }
  Set& SetOf(std::size_t bucket) const { return sets_[bucket % sets_.size()]; }
  // nullptr: there is none. Under the set's mutex.
  Entry* EntryOf(const Charge& charge, std::size_t bucket) const;
  std::mutex& MutexOf(std::size_t bucket) const {
    return mutexes_[bucket % sets_.size() % mutexes_.size()].mutex;
  }

  struct alignas(64) Lock {
    std::mutex mutex;
  };
  mutable std::array<Lock, 64> mutexes_;
  mutable std::vector<Set> sets_;  // Each guarded by its mutex.

  std::atomic<std::uint64_t> forgotten_ = 0;
  const std::chrono::microseconds max_age_;
};

}  // namespace ratelimiter
