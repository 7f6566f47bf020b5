#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include <absl/container/inlined_vector.h>

#include "ratelimiter/limiter/bucket_spec.h"
#include "ratelimiter/limiter/limit.h"
#include "ratelimiter/limiter/request.h"

namespace ratelimiter {

// Limits that a configuration may hold, and that one call may be subject to.
inline constexpr std::size_t kMaxLimits = 100'000;
inline constexpr std::size_t kMaxLimitsPerCall = 64;

// A limit that a request is subject to, with the numbers of its bucket: the
// limit's own, or those of an override.
struct MatchedLimit {
  const Limit* limit = nullptr;
  BucketSpec spec{};
};

// In the order of the file.
using MatchedLimits = absl::InlinedVector<MatchedLimit, 4>;

// All limits of one configuration, compiled so that finding those that a request
// is subject to takes as long among ten thousand as among ten.
//
// Immutable, and so thread-safe. What it hands out points into it.
class LimitSet {
 public:
  // Names differ, and each limit is valid by itself.
  LimitSet(std::vector<Limit> limits, HashBy hash_by);
  ~LimitSet();
  LimitSet(const LimitSet&) = delete;
  LimitSet& operator=(const LimitSet&) = delete;

  // In the order of the file.
  const std::vector<Limit>& limits() const { return limits_; }
  HashBy hash_by() const { return hash_by_; }

  // The limit of this name; nullptr: there is none.
  const Limit* Find(std::string_view name) const;

  // Every limit that applies to the request, but those that an override makes
  // unlimited for it.
  MatchedLimits Match(const Request& request) const;

  // The override of `limit`, one of limits(), that holds for a request which the
  // limit applies to. nullptr: none does, the limit's own numbers hold.
  const Override* OverrideFor(const Limit& limit, const Request& request) const;

  // No request is subject to more limits than this.
  std::size_t most_per_call() const;

 private:
  struct Index;

  const std::vector<Limit> limits_;
  const HashBy hash_by_;
  const std::unique_ptr<const Index> index_;
};

}  // namespace ratelimiter
