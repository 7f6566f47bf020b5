#include "ratelimiter/limiter/limit_set.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include <absl/container/flat_hash_map.h>

#include "condition_index.h"

namespace ratelimiter {
namespace {

using Number = ConditionIndex::Number;

Conditions ConditionsOf(const Limit& limit) {
  Conditions conditions;
  for (const std::string& key : limit.RequiredAttributes()) {
    const auto condition = limit.attributes.find(key);
    // Views of the limit's own strings, which live as long as the limit.
    if (condition != limit.attributes.end()) {
      conditions.attributes.push_back({condition->first, condition->second});
    } else {
      conditions.attributes.push_back({*std::ranges::find(limit.by.attributes, key), std::nullopt});
    }
  }
  return conditions;
}

Conditions ConditionsOf(const Override& override) {
  Conditions conditions = {.user = override.user, .path = override.path};
  for (const auto& [key, value] : override.attributes)
    conditions.attributes.push_back({key, value});
  return conditions;
}

ConditionIndex IndexOf(const std::vector<Limit>& limits, const std::vector<Number>& numbers) {
  std::vector<Conditions> conditions;
  conditions.reserve(numbers.size());
  for (const Number number : numbers) conditions.push_back(ConditionsOf(limits[number]));
  return {conditions, numbers};
}

std::optional<ConditionIndex> IndexOf(const std::vector<Override>& overrides) {
  if (overrides.empty()) return std::nullopt;
  std::vector<Conditions> conditions;
  std::vector<Number> numbers;
  for (Number i = 0; i < overrides.size(); ++i) {
    conditions.push_back(ConditionsOf(overrides[i]));
    numbers.push_back(i);
  }
  return ConditionIndex(conditions, numbers);
}

}  // namespace

struct LimitSet::Index {
  using ByPath = absl::flat_hash_map<std::string_view, ConditionIndex>;

  explicit Index(const std::vector<Limit>& limits);

  // Calls `action` for each prefix pattern that `path` matches.
  void ForEachPrefix(std::string_view path, const auto& action) const {
    for (const std::size_t length : prefix_lengths) {
      if (length > path.size()) return;
      if (path[length - 1] != '/') continue;
      const auto prefix = prefixes.find(path.substr(0, length));
      if (prefix != prefixes.end()) action(prefix->second);
    }
  }
  std::size_t CountMostPerCall() const;

  absl::flat_hash_map<std::string_view, Number> by_name;
  ConditionIndex any_path{{}, {}};
  ByPath exact_paths;
  ByPath prefixes;
  std::set<std::size_t> prefix_lengths;
  // By limit number; empty for a limit without overrides.
  std::vector<std::optional<ConditionIndex>> overrides;
  std::size_t most_per_call = 0;
};

LimitSet::Index::Index(const std::vector<Limit>& limits) {
  std::vector<Number> any;
  absl::flat_hash_map<std::string_view, std::vector<Number>> exact;
  absl::flat_hash_map<std::string_view, std::vector<Number>> prefixed;
  for (Number i = 0; i < limits.size(); ++i) {
    const PathPattern& path = limits[i].path;
    by_name.emplace(limits[i].name, i);
    overrides.push_back(IndexOf(limits[i].overrides));
    (path.any() ? any : (path.is_prefix() ? prefixed : exact)[path.literal()]).push_back(i);
  }
  any_path = IndexOf(limits, any);
  for (const auto& [path, numbers] : exact) exact_paths.emplace(path, IndexOf(limits, numbers));
  for (const auto& [prefix, numbers] : prefixed) {
    prefixes.emplace(prefix, IndexOf(limits, numbers));
    prefix_lengths.insert(prefix.size());
  }
  most_per_call = CountMostPerCall();
}

// An upper bound: it ignores that conditions on attributes may exclude each other.
std::size_t LimitSet::Index::CountMostPerCall() const {
  const std::size_t any = any_path.most_found();
  std::size_t most = any;
  const auto count = [&](std::string_view path, std::size_t exact) {
    std::size_t found = any + exact;
    ForEachPrefix(path, [&](const ConditionIndex& prefix) { found += prefix.most_found(); });
    most = std::max(most, found);
  };
  for (const auto& [path, index] : exact_paths) count(path, index.most_found());
  for (const auto& [prefix, index] : prefixes) count(prefix, 0);
  return most;
}

LimitSet::LimitSet(std::vector<Limit> limits, HashBy hash_by)
    : limits_(std::move(limits)),
      hash_by_(hash_by),
      index_(std::make_unique<const Index>(limits_)) {}

LimitSet::~LimitSet() = default;

const Limit* LimitSet::Find(std::string_view name) const {
  const auto found = index_->by_name.find(name);
  return found == index_->by_name.end() ? nullptr : &limits_[found->second];
}

MatchedLimits LimitSet::Match(const Request& request) const {
  ConditionIndex::Numbers numbers;
  index_->any_path.Find(request, numbers);
  if (const auto exact = index_->exact_paths.find(request.path);
      exact != index_->exact_paths.end()) {
    exact->second.Find(request, numbers);
  }
  index_->ForEachPrefix(request.path,
                        [&](const ConditionIndex& prefix) { prefix.Find(request, numbers); });
  std::ranges::sort(numbers);

  MatchedLimits matched;
  for (const Number number : numbers) {
    const Limit& limit = limits_[number];
    const Override* override = OverrideFor(limit, request);
    if (override == nullptr) {
      matched.push_back({&limit, limit.spec});
    } else if (override->spec.has_value()) {
      matched.push_back({&limit, *override->spec});
    }
  }
  return matched;
}

const Override* LimitSet::OverrideFor(const Limit& limit, const Request& request) const {
  const auto& overrides = index_->overrides[static_cast<std::size_t>(&limit - limits_.data())];
  if (!overrides.has_value()) return nullptr;
  ConditionIndex::Numbers numbers;
  overrides->Find(request, numbers);
  const auto* const first = std::ranges::min_element(numbers);
  return first == numbers.end() ? nullptr : &limit.overrides[*first];
}

std::size_t LimitSet::most_per_call() const { return index_->most_per_call; }

}  // namespace ratelimiter
