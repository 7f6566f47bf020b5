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

// A table of buckets by limit and subject that also finds those that are full, so
// that they can be forgotten.
//
// Entries lie in a slab; a hash set and a binary heap refer to them by slot number.
// The heap has on top the one that is to be looked at first, which is when it was
// thought to be full: one that has paid since is full later, and goes back by the
// time it is then. So a bucket moves in the heap once in the time it takes to fill,
// not at each change. Lookup and change O(1), no allocation for a bucket that is
// there.
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

  // Precondition: Find(limit, subject) finds nothing.
  void Insert(std::string_view limit, std::string_view bucket_key, const Bucket& bucket);

  // Forgets a bucket that is full at `now`. Returns whether it did. Looks at no more
  // than `looks` that may be.
  bool ForgetFull(std::chrono::microseconds now, std::size_t looks);

 private:
  struct Entry {
    std::string bucket_key;
    std::uint32_t limit = 0;
    Slot heap_index = 0;
    std::chrono::microseconds look_at{0};  // At most the bucket's full_at.
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
  // Both take a slot for the key that its entry holds.
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
  std::chrono::microseconds LookAt(std::size_t heap_index) const;
  // Moves an entry in the heap to where it is due then.
  void LookLater(Entry& entry, std::chrono::microseconds at);
  void LookEarlier(Entry& entry, std::chrono::microseconds at);
  void SetHeapSlot(std::size_t heap_index, Slot slot);
  void SiftUp(std::size_t heap_index);
  void SiftDown(std::size_t heap_index);

  std::deque<Entry> entries_;
  std::vector<Slot> free_;
  std::vector<Slot> heap_;
  // Limits' names as numbers, so that an entry does not repeat the name.
  std::map<std::string, std::uint32_t, std::less<>> limits_;
  absl::flat_hash_set<Slot, Hash, Equal> slots_;
};

}  // namespace ratelimiter
