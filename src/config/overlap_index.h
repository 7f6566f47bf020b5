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

// Answers CanBothApply of one limit with all that were added, in a time that does not
// grow with their number.
class OverlapIndex {
 public:
  // Those that will be added are among `limits`, which must outlive it.
  explicit OverlapIndex(const std::vector<Limit>& limits);

  void Add(const Limit& limit);

  // The first of those added, in the order of `limits`, that the limit can meet;
  // nullptr: it can meet none.
  const Limit* First(const Limit& limit);

 private:
  // Limits of which one is wanted whose attributes do not contradict another's.
  class Attributes {
   public:
    void Add(const Limit& limit);
    const Limit* First(const Limit& limit);

   private:
    using Keys = std::vector<std::string_view>;
    using FirstByValues = absl::flat_hash_map<std::string, const Limit*>;

    // Those that have conditions on the same attributes.
    struct Group {
      std::vector<const Limit*> limits;
      // By some of the attributes: the first that has these values.
      std::map<Keys, FirstByValues> first;
    };

    static Keys KeysOf(const Limit& limit);
    static std::string ValuesOf(const Limit& limit, const Keys& keys);

    std::map<Keys, Group> groups_;
  };
  using ByPath = absl::flat_hash_map<std::string_view, Attributes>;

  // Every prefix of the limits that `path` begins with, itself included.
  template <typename Action>
  void ForEachPrefix(std::string_view path, const Action& action) const;

  std::set<std::string_view> prefixes_;
  std::set<std::size_t> prefix_lengths_;

  Attributes all_;
  Attributes any_path_;
  ByPath exact_;
  ByPath prefix_;
  // By a prefix: those of a path, or a prefix, that begins with it.
  ByPath below_;
};

}  // namespace ratelimiter
