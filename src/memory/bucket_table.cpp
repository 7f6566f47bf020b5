#include "bucket_table.h"

#include <utility>

namespace ratelimiter {

BucketTable::BucketTable() : slots_(0, Hash{{&entries_}}, Equal{{&entries_}}) {}

std::optional<BucketTable::Slot> BucketTable::Find(std::string_view limit,
                                                   std::string_view bucket_key) const {
  const auto number = limits_.find(limit);
  if (number == limits_.end()) return std::nullopt;
  const auto slot = slots_.find(Key{number->second, bucket_key});
  if (slot == slots_.end()) return std::nullopt;
  return *slot;
}

void BucketTable::Update(Slot slot, const Bucket& bucket) {
  Entry& entry = entries_[slot];
  entry.bucket = bucket;
  if (bucket.full_at < entry.check_at) CheckEarlier(entry, bucket.full_at);
}

void BucketTable::Insert(std::string_view limit, std::string_view bucket_key,
                         const Bucket& bucket) {
  Slot slot = 0;
  if (free_.empty()) {
    slot = static_cast<Slot>(entries_.size());
    entries_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  Entry& entry = entries_[slot];
  entry.bucket_key = bucket_key;
  entry.limit = LimitNumber(limit);
  entry.bucket = bucket;
  entry.heap_index = static_cast<Slot>(heap_.size());
  heap_.push_back(slot);
  CheckEarlier(entry, bucket.full_at);
  slots_.insert(slot);
}

bool BucketTable::ForgetFull(std::chrono::microseconds now, std::size_t max_checks) {
  while (true) {
    if (max_checks-- == 0 || heap_.empty() || CheckAt(0) > now) return false;
    Entry& entry = entries_[heap_.front()];
    if (entry.bucket.full_at <= now) break;
    CheckLater(entry, entry.bucket.full_at);
  }
  const Slot forgotten = heap_.front();
  slots_.erase(forgotten);
  const Slot last = heap_.back();
  heap_.pop_back();
  if (!heap_.empty()) {
    heap_.front() = last;
    SiftDown(0);
  }
  entries_[forgotten].bucket_key = std::string();
  free_.push_back(forgotten);
  return true;
}

std::uint32_t BucketTable::LimitNumber(std::string_view limit) {
  const auto found = limits_.find(limit);
  if (found != limits_.end()) return found->second;
  return limits_.emplace(limit, static_cast<std::uint32_t>(limits_.size())).first->second;
}

std::chrono::microseconds BucketTable::CheckAt(std::size_t heap_index) const {
  return entries_[heap_[heap_index]].check_at;
}

void BucketTable::CheckLater(Entry& entry, std::chrono::microseconds at) {
  entry.check_at = at;
  SiftDown(entry.heap_index);
}

void BucketTable::CheckEarlier(Entry& entry, std::chrono::microseconds at) {
  entry.check_at = at;
  SiftUp(entry.heap_index);
}

void BucketTable::SetHeapSlot(std::size_t heap_index, Slot slot) {
  heap_[heap_index] = slot;
  entries_[slot].heap_index = static_cast<Slot>(heap_index);
}

void BucketTable::SiftUp(std::size_t heap_index) {
  const Slot slot = heap_[heap_index];
  const auto check_at = entries_[slot].check_at;
  while (heap_index > 0) {
    const std::size_t parent = (heap_index - 1) / 2;
    if (CheckAt(parent) <= check_at) break;
    SetHeapSlot(heap_index, heap_[parent]);
    heap_index = parent;
  }
  SetHeapSlot(heap_index, slot);
}

void BucketTable::SiftDown(std::size_t heap_index) {
  const Slot slot = heap_[heap_index];
  const auto check_at = entries_[slot].check_at;
  while (true) {
    std::size_t child = 2 * heap_index + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && CheckAt(child + 1) < CheckAt(child)) ++child;
    if (CheckAt(child) >= check_at) break;
    SetHeapSlot(heap_index, heap_[child]);
    heap_index = child;
  }
  SetHeapSlot(heap_index, slot);
}

}  // namespace ratelimiter
