#include "condition_index.h"

#include <algorithm>
#include <utility>

#include <absl/strings/string_view.h>
#include <fmt/format.h>

namespace ratelimiter {
namespace {

// The key type of heterogeneous lookup where absl has a string_view of its own, as in Debian 12.
absl::string_view Key(std::string_view text) { return {text.data(), text.size()}; }

// Values concatenated with their lengths, so that different values give different rows.
class Row {
 public:
  void Append(std::string_view value) {
    const std::size_t size = value.size();
    const auto* const bytes = reinterpret_cast<const char*>(&size);
    bytes_.append(bytes, bytes + sizeof size);
    bytes_.append(value.data(), value.data() + value.size());
  }
  std::string_view view() const { return {bytes_.data(), bytes_.size()}; }

 private:
  fmt::memory_buffer bytes_;  // Allocates for long rows only.
};

std::string RowOf(const Conditions& conditions) {
  Row row;
  if (conditions.user.has_value()) row.Append(*conditions.user);
  if (conditions.path.has_value()) row.Append(*conditions.path);
  for (const auto& attribute : conditions.attributes) {
    if (attribute.value.has_value()) row.Append(*attribute.value);
  }
  return std::string(row.view());
}

}  // namespace

ConditionIndex::ConditionIndex(const std::vector<Conditions>& conditions,
                               const std::vector<Number>& numbers) {
  absl::flat_hash_map<std::string_view, std::size_t> uses;
  for (const Conditions& entry : conditions) {
    for (const auto& attribute : entry.attributes) ++uses[attribute.key];
  }
  for (std::size_t i = 0; i < conditions.size(); ++i) {
    const auto& attributes = conditions[i].attributes;
    const auto rarest = std::ranges::min_element(
        attributes, {}, [&](const auto& attribute) { return uses[attribute.key]; });
    Group& group = GroupOf(conditions[i], rarest == attributes.end()
                                              ? without_attributes_
                                              : by_attribute_[std::string(rarest->key)]);
    group.by_values[RowOf(conditions[i])].push_back(numbers[i]);
  }
  const auto count = [this](const std::vector<Group>& groups) {
    for (const Group& group : groups) {
      std::size_t most = 0;
      for (const auto& [values, found] : group.by_values) most = std::max(most, found.size());
      most_found_ += most;
    }
  };
  count(without_attributes_);
  for (const auto& [attribute, groups] : by_attribute_) count(groups);
}

void ConditionIndex::Find(const Request& request, Numbers& found) const {
  for (const Group& group : without_attributes_) group.Find(request, found);
  if (by_attribute_.empty()) return;
  for (const AttributeView& attribute : request.attributes) {
    const auto groups = by_attribute_.find(Key(attribute.key));
    if (groups == by_attribute_.end()) continue;
    for (const Group& group : groups->second) group.Find(request, found);
  }
}

void ConditionIndex::Group::Find(const Request& request, Numbers& found) const {
  Row row;
  if (user) row.Append(request.user_id);
  if (path) row.Append(request.path);
  for (const std::string& key : valued) {
    const auto value = request.Attribute(key);
    if (!value.has_value()) return;
    row.Append(*value);
  }
  for (const std::string& key : present) {
    if (!request.Attribute(key).has_value()) return;
  }
  const auto numbers = by_values.find(Key(row.view()));
  if (numbers != by_values.end()) {
    found.insert(found.end(), numbers->second.begin(), numbers->second.end());
  }
}

ConditionIndex::Group& ConditionIndex::GroupOf(const Conditions& conditions,
                                               std::vector<Group>& groups) {
  Group wanted = {.user = conditions.user.has_value(), .path = conditions.path.has_value()};
  for (const auto& [key, value] : conditions.attributes) {
    (value.has_value() ? wanted.valued : wanted.present).emplace_back(key);
  }
  const auto same = std::ranges::find_if(groups, [&](const Group& group) {
    return group.user == wanted.user && group.path == wanted.path &&
           group.valued == wanted.valued && group.present == wanted.present;
  });
  return same != groups.end() ? *same : groups.emplace_back(std::move(wanted));
}

}  // namespace ratelimiter
