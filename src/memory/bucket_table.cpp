#include "bucket_table.h"

#include <utility>

namespace ratelimiter {

BucketTable::BucketTable() : slots_(0, Hash{{&entries_}}, Equal{{&entries_}}) {}

std::optional<BucketTable::Slot> BucketTable::Find(std::string_view limit,
                                                   std::string_view subject) const {
  const auto number = limits_.find(limit);
  if (number == limits_.end()) return std::nullopt;
  const auto slot = slots_.find(Key{number->second, subject});
  if (slot == slots_.end()) return std::nullopt;
  return *slot;
}

void BucketTable::Update(Slot slot, const Bucket& bucket) {
  Entry& entry = entries_[slot];
  const bool later = bucket.full_at > entry.bucket.full_at;
  entry.bucket = bucket;
  if (later) {
    SiftDown(entry.heap_index);
  } else {
    SiftUp(entry.heap_index);
  }
}

void BucketTable::Insert(std::string_view limit, std::string_view subject, const Bucket& bucket) {
  Slot slot = 0;
  if (free_.empty()) {
    slot = static_cast<Slot>(entries_.size());
    entries_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  Entry& entry = entries_[slot];
  entry.subject = subject;
  entry.limit = LimitNumber(limit);
  entry.bucket = bucket;
  heap_.push_back(slot);
  SiftUp(heap_.size() - 1);
  slots_.insert(slot);
}

bool BucketTable::ForgetFull(std::chrono::microseconds now) {
  if (heap_.empty() || FullAt(0) > now) return false;
  const Slot forgotten = heap_.front();
  slots_.erase(forgotten);
  const Slot last = heap_.back();
  heap_.pop_back();
  if (!heap_.empty()) {
    heap_.front() = last;
    SiftDown(0);
  }
  entries_[forgotten].subject = std::string();
  free_.push_back(forgotten);
  return true;
}

std::uint32_t BucketTable::LimitNumber(std::string_view limit) {
  const auto found = limits_.find(limit);
  if (found != limits_.end()) return found->second;
  return limits_.emplace(limit, static_cast<std::uint32_t>(limits_.size())).first->second;
}

std::chrono::microseconds BucketTable::FullAt(std::size_t heap_index) const {
  return entries_[heap_[heap_index]].bucket.full_at;
}

void BucketTable::Place(std::size_t heap_index, Slot slot) {
  heap_[heap_index] = slot;
  entries_[slot].heap_index = static_cast<Slot>(heap_index);
}

void BucketTable::SiftUp(std::size_t heap_index) {
  const Slot slot = heap_[heap_index];
  const auto full_at = entries_[slot].bucket.full_at;
  while (heap_index > 0) {
    const std::size_t parent = (heap_index - 1) / 2;
    if (FullAt(parent) <= full_at) break;
    Place(heap_index, heap_[parent]);
    heap_index = parent;
  }
  Place(heap_index, slot);
}

void BucketTable::SiftDown(std::size_t heap_index) {
  const Slot slot = heap_[heap_index];
  const auto full_at = entries_[slot].bucket.full_at;
  while (true) {
    std::size_t child = 2 * heap_index + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && FullAt(child + 1) < FullAt(child)) ++child;
    if (FullAt(child) >= full_at) break;
    Place(heap_index, heap_[child]);
    heap_index = child;
  }
  Place(heap_index, slot);
}

}  // namespace ratelimiter
