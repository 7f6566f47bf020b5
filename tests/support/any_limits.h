#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ratelimiter/limiter/limit.h"
#include "ratelimiter/limiter/limit_set.h"

namespace ratelimiter::testing {

// Limits and requests out of few values, so that many of them meet. A source of
// choices makes them: Choose(n) is below n.
using Choose = std::function<std::size_t(std::size_t)>;

inline constexpr std::array<std::string_view, 3> kSomeUsers = {"u", "v", "w"};
inline constexpr std::array<std::string_view, 7> kSomePaths = {"",     "/",      "/a",  "/a/",
                                                               "/a/b", "/a/b/c", "/b/c"};
inline constexpr std::array<std::string_view, 5> kSomePatterns = {"*", "/*", "/a/*", "/a/b/*",
                                                                  "/b/*"};
inline constexpr std::array<std::string_view, 4> kSomeKeys = {"k", "l", "m", "n"};
inline constexpr std::array<std::string_view, 3> kSomeValues = {"", "x", "y"};

template <std::size_t N>
std::string OneOf(const std::array<std::string_view, N>& values, const Choose& choose) {
  return std::string(values[choose(N)]);
}

inline Limit AnyLimit(std::string name, const Choose& choose) {
  Limit limit = {.name = std::move(name)};
  limit.path =
      PathPattern(choose(2) == 0 ? OneOf(kSomePaths, choose) : OneOf(kSomePatterns, choose));
  limit.by.user = choose(2) == 0;
  limit.by.path = choose(3) == 0;
  for (const std::string_view key : kSomeKeys) {
    const std::size_t use = choose(8);
    if (use < 2) limit.attributes.emplace(key, OneOf(kSomeValues, choose));
    if (use == 1 || use == 2) limit.by.attributes.emplace_back(key);
  }
  for (std::size_t count = choose(4); count > 0; --count) {
    Override& override = limit.overrides.emplace_back();
    if (choose(2) == 0) override.user = OneOf(kSomeUsers, choose);
    if (choose(3) == 0) override.path = OneOf(kSomePaths, choose);
    for (const std::string_view key : kSomeKeys) {
      if (choose(4) == 0) override.attributes.emplace(key, OneOf(kSomeValues, choose));
    }
    if (choose(4) != 0) override.spec = BucketSpec{count, 1, std::chrono::seconds(1)};
  }
  limit.spec = {100, 1, std::chrono::seconds(1)};
  return limit;
}

inline std::vector<Limit> AnyLimits(const Choose& choose) {
  std::vector<Limit> limits;
  const std::size_t count = choose(12);
  for (std::size_t i = 0; i < count; ++i) limits.push_back(AnyLimit(fmt::format("l{}", i), choose));
  return limits;
}

// A request with what its strings are in.
class AnyRequest {
 public:
  explicit AnyRequest(const Choose& choose)
      : user_(OneOf(kSomeUsers, choose)), path_(OneOf(kSomePaths, choose)) {
    for (const std::string_view key : kSomeKeys) {
      if (choose(2) == 0) attributes_.push_back({key, kSomeValues[choose(kSomeValues.size())]});
    }
    if (choose(2) == 0) std::ranges::reverse(attributes_);
  }

  Request get() const { return {.user_id = user_, .path = path_, .attributes = attributes_}; }

 private:
  std::string user_;
  std::string path_;
  std::vector<AttributeView> attributes_;
};

// What LimitSet::Match is to find, by the plain meaning of limits and overrides.
inline MatchedLimits PlainMatch(const std::vector<Limit>& limits, const Request& request) {
  MatchedLimits matched;
  for (const Limit& limit : limits) {
    if (!limit.AppliesTo(request)) continue;
    const auto override = std::ranges::find_if(
        limit.overrides, [&](const Override& candidate) { return candidate.Matches(request); });
    if (override == limit.overrides.end()) {
      matched.push_back({&limit, limit.spec});
    } else if (override->spec.has_value()) {
      matched.push_back({&limit, *override->spec});
    }
  }
  return matched;
}

inline bool Same(const MatchedLimits& one, const MatchedLimits& other) {
  return std::ranges::equal(one, other, [](const MatchedLimit& a, const MatchedLimit& b) {
    return a.limit == b.limit && a.spec == b.spec;
  });
}

}  // namespace ratelimiter::testing
