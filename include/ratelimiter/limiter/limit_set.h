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

// The number of limits that a configuration may hold, and that may apply to one call.
inline constexpr std::size_t kMaxLimits = 100'000;
inline constexpr std::size_t kMaxLimitsPerCall = 64;

// A limit that applies to a request, and the spec of its bucket: the limit's own or an override's.
struct MatchedLimit {
  const Limit* limit = nullptr;
  BucketSpec spec{};
};

// In file order.
using MatchedLimits = absl::InlinedVector<MatchedLimit, 4>;

// All limits of one configuration, indexed so that finding the limits that apply to a request takes
// as long among ten thousand as among ten.
//
// Immutable and therefore thread-safe. Returned pointers and references are valid as long as the
// set.
class LimitSet {
 public:
  // REQUIRES: names are unique, and each limit is valid.
  LimitSet(std::vector<Limit> limits, HashBy hash_by);
  ~LimitSet();
  LimitSet(const LimitSet&) = delete;
  LimitSet& operator=(const LimitSet&) = delete;

  // In file order.
  const std::vector<Limit>& limits() const { return limits_; }
  HashBy hash_by() const { return hash_by_; }

  // The limit of this name, or nullptr.
  const Limit* Find(std::string_view name) const;

  // The limits that apply to the request, except those that an override makes unlimited for it.
  MatchedLimits Match(const Request& request) const;

  // The override of `limit`, an element of limits(), that applies to the request, or nullptr if the
  // limit's own spec does. REQUIRES: the limit applies to the request.
  const Override* OverrideFor(const Limit& limit, const Request& request) const;

  // An upper bound on the number of limits that apply to one request.
  std::size_t most_per_call() const;

 private:
  struct Index;

  const std::vector<Limit> limits_;
  const HashBy hash_by_;
  const std::unique_ptr<const Index> index_;
};

}  // namespace ratelimiter
