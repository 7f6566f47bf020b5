#include "overlap_index.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

namespace ratelimiter {
namespace {

// The earlier of two limits of one list; either may be nullptr.
const Limit* Before(const Limit* one, const Limit* other) {
  if (one == nullptr || other == nullptr) return one == nullptr ? other : one;
  return std::min(one, other);
}

}  // namespace

OverlapIndex::OverlapIndex(const std::vector<Limit>& limits) {
  for (const Limit& limit : limits) {
    if (!limit.path.is_prefix()) continue;
    prefixes_.insert(limit.path.literal());
    prefix_lengths_.insert(limit.path.literal().size());
  }
}

template <typename Action>
void OverlapIndex::ForEachPrefix(std::string_view path, const Action& action) const {
  for (const std::size_t length : prefix_lengths_) {
    if (length > path.size()) return;
    if (const auto prefix = prefixes_.find(path.substr(0, length)); prefix != prefixes_.end()) {
      action(*prefix);
    }
  }
}

void OverlapIndex::Add(const Limit& limit) {
  all_.Add(limit);
  const std::string_view literal = limit.path.literal();
  if (limit.path.any()) {
    any_path_.Add(limit);
    return;
  }
  (limit.path.is_prefix() ? prefix_ : exact_)[literal].Add(limit);
  ForEachPrefix(literal, [&](std::string_view prefix) { below_[prefix].Add(limit); });
}

const Limit* OverlapIndex::First(const Limit& limit) {
  if (limit.path.any()) return all_.First(limit);
  const Limit* first = any_path_.First(limit);
  const auto look = [&](ByPath& by_path, std::string_view path) {
    const auto found = by_path.find(path);
    if (found != by_path.end()) first = Before(first, found->second.First(limit));
  };
  const std::string_view literal = limit.path.literal();
  look(limit.path.is_prefix() ? below_ : exact_, literal);
  ForEachPrefix(literal, [&](std::string_view prefix) { look(prefix_, prefix); });
  return first;
}

OverlapIndex::Attributes::Keys OverlapIndex::Attributes::KeysOf(const Limit& limit) {
  Keys keys;
  for (const auto& [key, value] : limit.attributes) keys.emplace_back(key);
  return keys;
}

// An unambiguous encoding: different lists of values give different texts.
std::string OverlapIndex::Attributes::ValuesOf(const Limit& limit, const Keys& keys) {
  std::string values;
  for (const std::string_view key : keys) {
    const std::string& value = limit.attributes.find(key)->second;
    fmt::format_to(std::back_inserter(values), "{}:{}", value.size(), value);
  }
  return values;
}

void OverlapIndex::Attributes::Add(const Limit& limit) {
  Group& group = groups_[KeysOf(limit)];
  group.limits.push_back(&limit);
  for (auto& [keys, first] : group.first) first.emplace(ValuesOf(limit, keys), &limit);
}

const Limit* OverlapIndex::Attributes::First(const Limit& limit) {
  const Keys keys = KeysOf(limit);
  const Limit* met = nullptr;
  for (auto& [group_keys, group] : groups_) {
    Keys shared;
    std::ranges::set_intersection(keys, group_keys, std::back_inserter(shared));
    if (shared.empty()) {
      met = Before(met, group.limits.front());
      continue;
    }
    const auto [first, is_new] = group.first.try_emplace(shared);
    if (is_new) {
      for (const Limit* const member : group.limits) {
        first->second.emplace(ValuesOf(*member, shared), member);
      }
    }
    const auto found = first->second.find(ValuesOf(limit, shared));
    if (found != first->second.end()) met = Before(met, found->second);
  }
  return met;
}

}  // namespace ratelimiter
