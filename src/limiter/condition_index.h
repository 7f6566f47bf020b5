#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/container/flat_hash_map.h>
#include <absl/container/inlined_vector.h>

#include "ratelimiter/limiter/request.h"

namespace ratelimiter {

// Conditions on a request's values. The strings must outlive this object.
struct Conditions {
  struct Attribute {
    std::string_view key;
    // None: any value.
    std::optional<std::string_view> value;
  };
  std::optional<std::string_view> user{};
  std::optional<std::string_view> path{};
  // Sorted by key, unique.
  std::vector<Attribute> attributes{};
};

// Finds the numbered conditions that a request meets, by hashing the request's values, in a time
// that does not grow with the number of conditions.
//
// Conditions on the same fields, whatever the values, form a group, with one hash table. A group is
// probed only if the request has the group's rarest attribute, that of the fewest conditions.
//
// Immutable and therefore thread-safe.
class ConditionIndex {
 public:
  using Number = std::uint32_t;
  using Numbers = absl::InlinedVector<Number, 8>;

  // conditions[i] has the number numbers[i].
  ConditionIndex(const std::vector<Conditions>& conditions, const std::vector<Number>& numbers);

  // Appends the numbers of all conditions that the request meets, in no particular order.
  void Find(const Request& request, Numbers& found) const;

  // An upper bound on what Find appends.
  std::size_t most_found() const { return most_found_; }

 private:
  struct Group {
    bool user = false;
    bool path = false;
    // Attributes that must have a given value, and attributes that must be present.
    std::vector<std::string> valued{};
    std::vector<std::string> present{};
    absl::flat_hash_map<std::string, std::vector<Number>> by_values{};

    void Find(const Request& request, Numbers& found) const;
  };

  Group& GroupOf(const Conditions& conditions, std::vector<Group>& groups);

  std::vector<Group> without_attributes_;
  absl::flat_hash_map<std::string, std::vector<Group>> by_attribute_;
  std::size_t most_found_ = 0;
};

}  // namespace ratelimiter
