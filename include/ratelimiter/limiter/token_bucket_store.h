#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/limiter/limit.h"

namespace ratelimiter {

// What a call asks of a bucket.
struct Charge {
  // Tokens; 0 is a look. Precondition: at most the limit's capacity.
  std::uint64_t cost = 1;
  // False: decided as it would be, and nothing changes.
  bool take = true;
};

// What a bucket answered. A refusal is a value, never an error.
struct Decision {
  bool allowed = false;
  // Whole tokens left after the decision.
  std::uint64_t remaining = 0;
  // Refused: the exact wait until the same charge passes, rounded up to the
  // microsecond. Allowed: zero.
  std::chrono::microseconds retry_after{0};
  // The wait until the bucket is full, rounded up likewise; zero if it is.
  std::chrono::microseconds reset_after{0};

  friend bool operator==(const Decision&, const Decision&) = default;
};

// Keeps the token buckets and decides against them: the seam between the
// limiter and where its state lives. docs/architecture.md states the token
// bucket contract; one suite of tests holds every implementation to it.
//
// Implementations are thread-safe.
class TokenBucketStore {
 public:
  virtual ~TokenBucketStore() = default;

  // Decides `charge`, atomically, against the bucket that `limit` (valid by
  // Validate) keeps for `subject` (any bytes, 1 to 256). A bucket not seen
  // before is full.
  //
  // Waits no longer than `deadline`, and never longer than the store's own
  // bound. Errors: UNAVAILABLE (the store did not answer), DEADLINE_EXCEEDED
  // (`deadline` passed before the store was asked), RESOURCE_EXHAUSTED (no room
  // for another bucket), INTERNAL (the store answered something that it must
  // not). After an error that came while the store worked on it, the charge may
  // or may not have been taken; it is never repeated here.
  virtual absl::StatusOr<Decision> Decide(const Limit& limit, std::string_view subject,
                                          Charge charge, Deadline deadline) = 0;

  // Whether the store can decide now; waits and fails as Decide does.
  virtual absl::Status Check(Deadline deadline) = 0;
};

}  // namespace ratelimiter
