#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <absl/container/flat_hash_map.h>

#include "ratelimiter/limiter/limit.h"

namespace ratelimiter {

// Finds a limit that can apply to the same request as another (CanBothApply), in a time that
// does not grow with the number of limits.
class OverlapIndex {
 public:
  // Only elements of `limits` may be added. `limits` must outlive this object.
  explicit OverlapIndex(const std::vector<Limit>& limits);

  void Add(const Limit& limit);

  // The first added limit, in the order of `limits`, that overlaps with `limit`; nullptr if none.
  const Limit* First(const Limit& limit);

 private:
  // Finds a limit by attributes: one that does not contradict another's.
  class Attributes {
   public:
    void Add(const Limit& limit);
    const Limit* First(const Limit& limit);

   private:
    using Keys = std::vector<std::string_view>;
    using FirstByValues = absl::flat_hash_map<std::string, const Limit*>;

    // Limits with conditions on the same attributes.
    struct Group {
      std::vector<const Limit*> limits;
      // By a subset of the attributes: the first limit with these values.
      std::map<Keys, FirstByValues> first;
    };

    static Keys KeysOf(const Limit& limit);
    static std::string ValuesOf(const Limit& limit, const Keys& keys);

    std::map<Keys, Group> groups_;
  };
  using ByPath = absl::flat_hash_map<std::string_view, Attributes>;

  // Calls `action` with every prefix of a limit that `path` begins with, or equals.
  template <typename Action>
  void ForEachPrefix(std::string_view path, const Action& action) const;

  std::set<std::string_view> prefixes_;
  std::set<std::size_t> prefix_lengths_;

  Attributes all_;
  Attributes any_path_;
  ByPath exact_;
  ByPath prefix_;
  // By prefix: the limits whose path or prefix begins with it.
  ByPath below_;
};

}  // namespace ratelimiter
