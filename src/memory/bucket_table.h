#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/container/flat_hash_set.h>
#include <absl/hash/hash.h>

#include "bucket.h"

namespace ratelimiter {

// A table of buckets by limit and bucket key that also finds full buckets, so that they can be
// forgotten.
//
// Entries lie in a slab; a hash set and a binary heap refer to them by slot number. The heap orders
// them by check_at, a lower bound of the time when the bucket is full. A charge makes its bucket
// full later but leaves check_at; when that time comes, the entry moves to its new place. So a
// bucket moves in the heap once per time to full, not once per charge. Lookup and update are O(1)
// and do not allocate for an existing bucket.
//
// Not thread-safe.
class BucketTable {
 public:
  using Slot = std::uint32_t;

  BucketTable();
  BucketTable(const BucketTable&) = delete;
  BucketTable& operator=(const BucketTable&) = delete;

  std::optional<Slot> Find(std::string_view limit, std::string_view bucket_key) const;

  const Bucket& bucket(Slot slot) const { return entries_[slot].bucket; }

  // Replaces the bucket in `slot`.
  void Update(Slot slot, const Bucket& bucket);

  // REQUIRES: Find(limit, bucket_key) returns none.
  void Insert(std::string_view limit, std::string_view bucket_key, const Bucket& bucket);

  // Forgets one bucket that is full at `now`, among up to `max_checks` candidates. Returns whether
  // it found one.
  bool ForgetFull(std::chrono::microseconds now, std::size_t max_checks);

 private:
  struct Entry {
    std::string bucket_key;
    std::uint32_t limit = 0;
    Slot heap_index = 0;
    std::chrono::microseconds check_at{0};  // Never after the bucket's full_at.
    Bucket bucket;
  };
  struct Key {
    std::uint32_t limit;
    std::string_view bucket_key;
    friend bool operator==(const Key&, const Key&) = default;
    template <typename H>
    friend H AbslHashValue(H hash, const Key& key) {
      return H::combine(std::move(hash), key.limit, key.bucket_key);
    }
  };
  // Lets the hash set compare slots, by the key in their entry, with keys.
  struct KeyOf {
    using is_transparent = void;
    const std::deque<Entry>* entries;
    Key operator()(Slot slot) const {
      return {(*entries)[slot].limit, (*entries)[slot].bucket_key};
    }
    Key operator()(const Key& key) const { return key; }
  };
  struct Hash : KeyOf {
    std::size_t operator()(const auto& key) const { return absl::HashOf(KeyOf::operator()(key)); }
  };
  struct Equal : KeyOf {
    bool operator()(const auto& a, const auto& b) const {
      return KeyOf::operator()(a) == KeyOf::operator()(b);
    }
  };

  std::uint32_t LimitNumber(std::string_view limit);
  std::chrono::microseconds CheckAt(std::size_t heap_index) const;
  // Changes check_at and restores the heap.
  void CheckLater(Entry& entry, std::chrono::microseconds at);
  void CheckEarlier(Entry& entry, std::chrono::microseconds at);
  void SetHeapSlot(std::size_t heap_index, Slot slot);
  void SiftUp(std::size_t heap_index);
  void SiftDown(std::size_t heap_index);

  std::deque<Entry> entries_;
  std::vector<Slot> free_;
  std::vector<Slot> heap_;
  // Numbers that stand for the limits' names in entries.
  std::map<std::string, std::uint32_t, std::less<>> limits_;
  absl::flat_hash_set<Slot, Hash, Equal> slots_;
};

}  // namespace ratelimiter
