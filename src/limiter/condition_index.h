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

// What a request must hold for something to apply to it. The strings belong to
// whoever made it.
struct Conditions {
  struct Attribute {
    std::string_view key;
    // None: any value will do.
    std::optional<std::string_view> value;
  };
  std::optional<std::string_view> user{};
  std::optional<std::string_view> path{};
  // By key, each once.
  std::vector<Attribute> attributes{};
};

// Finds, among numbered conditions, those that a request meets, in a time that
// does not grow with their number: it hashes the values that the request has
// where they ask for one.
//
// Conditions that ask for the same things, whatever the values, are a group; a
// group is looked at only if the request has the one of its attributes that
// fewest conditions ask for.
//
// Thread-safe, for it is immutable once all are added.
class ConditionIndex {
 public:
  using Number = std::uint32_t;
  using Numbers = absl::InlinedVector<Number, 8>;

  // conditions[i] gets numbers[i].
  ConditionIndex(const std::vector<Conditions>& conditions, const std::vector<Number>& numbers);

  // Appends the numbers of all that the request meets, in no order.
  void Find(const Request& request, Numbers& found) const;

  // No request meets more than this.
  std::size_t most_found() const { return most_found_; }

 private:
  struct Group {
    bool user = false;
    bool path = false;
    // Attributes that must have a certain value, and those that must be there.
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
