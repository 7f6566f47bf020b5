#pragma once

#include <cstdint>
#include <string_view>

#include <absl/status/statusor.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/limiter/limit.h"
#include "ratelimiter/limiter/token_bucket_store.h"

namespace ratelimiter {

// One request, as the limiter sees it. The strings are the caller's.
struct Request {
  std::string_view user_id{};
  std::string_view path{};
  std::uint64_t cost = 1;
  bool dry_run = false;

  // Whether the decision takes tokens and is counted.
  bool charges() const { return cost > 0 && !dry_run; }
};

// How much of a limit is used.
struct Usage {
  std::uint64_t used = 0;
  std::uint64_t allowed = 0;
};

// Chooses the limit that a request is subject to and has the store decide.
//
// Thread-safe. The store must outlive it.
class Limiter {
 public:
  // Precondition: Validate(limit) is OK.
  Limiter(Limit limit, TokenBucketStore& store);

  const Limit& limit() const { return limit_; }

  // INVALID_ARGUMENT if the cost is above the capacity: it could never pass.
  // Other errors: TokenBucketStore::Decide's.
  absl::StatusOr<Decision> Allow(const Request& request, Deadline deadline);

  // Changes nothing. Errors: TokenBucketStore::Decide's.
  absl::StatusOr<Usage> GetUsage(std::string_view user_id, Deadline deadline);

 private:
  const Limit limit_;
  TokenBucketStore& store_;
};

}  // namespace ratelimiter
