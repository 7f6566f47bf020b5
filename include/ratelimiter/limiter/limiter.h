#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <absl/container/inlined_vector.h>
#include <absl/functional/function_ref.h>
#include <absl/status/statusor.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/base/fail_mode.h"
#include "ratelimiter/base/snapshot.h"
#include "ratelimiter/limiter/bucket_spec.h"
#include "ratelimiter/limiter/fallback.h"
#include "ratelimiter/limiter/limit_set.h"
#include "ratelimiter/limiter/request.h"
#include "ratelimiter/limiter/token_bucket_store.h"

namespace ratelimiter {

// One limit's decision on a request.
struct LimitState {
  const Limit* limit = nullptr;
  // The spec of the bucket that the request takes from.
  BucketSpec spec{};
  // A refusal has no retry_after if waiting does not help: the capacity is 0, or the limit is a
  // shadow and the cost exceeds its capacity.
  Decision decision{};

  // How long until the request may pass; nothing if it passes now, or never will.
  std::optional<std::chrono::microseconds> retry_after() const {
    if (decision.allowed || decision.retry_after == std::chrono::microseconds(0))
      return std::nullopt;
    return decision.retry_after;
  }
};

// The decision on a request.
struct Answer {
  // Every limit that is not a shadow allows the request.
  bool allowed = true;
  // The limits that apply to the request, in file order. If the outcome is known without the
  // store, only those that were evaluated (see Request::details).
  absl::InlinedVector<LimitState, 4> states{};
  // Index into `states` of the deciding limit. Denied: the limit with the longest wait. Allowed:
  // the limit with the fewest calls left at this cost. Ties go to the first in file order; shadows
  // do not count. None: no limit other than shadows applies.
  std::optional<std::size_t> deciding{};
  // Keeps the limits that the states point to alive.
  std::shared_ptr<const LimitSet> limits{};
  // The fail mode that decided because the store failed; none if the store decided. The states are
  // those of this instance's buckets for kLocal, and empty for the other modes.
  std::optional<FailMode> fail_mode{};

  const LimitState* deciding_state() const {
    return deciding.has_value() ? &states[*deciding] : nullptr;
  }
};

// A message for people: "Request allowed", or the limit that denied the request and the tokens
// left; and the fail mode, if the store did not decide.
std::string ReasonOf(const Request& request, const Answer& answer);

// Why a limit does or does not apply to a request, and the bucket it would use.
struct Explanation {
  const Limit* limit = nullptr;
  bool applies = false;
  // A message for people: the conditions that hold, or the first that does not.
  std::string why;
  // If it applies: the spec, none if an override makes it unlimited, and the bucket's key.
  std::optional<BucketSpec> spec{};
  std::string bucket_key;
};

// Finds the limits that apply to a request and has the store decide them together: all buckets pay,
// or none does.
//
// Thread-safe. The store and the fallback must outlive this object.
class Limiter {
 public:
  // `fallback` decides Allow and AllowAll when the store fails; if it is null, they return the
  // store's error, as the other methods always do.
  Limiter(const std::shared_ptr<const LimitSet>& limits, TokenBucketStore& store,
          Fallback* fallback = nullptr);

  // The current limits. A call in progress during SetLimits keeps the limits that it began with.
  std::shared_ptr<const LimitSet> limits() const { return limits_.Get(); }
  void SetLimits(const std::shared_ptr<const LimitSet>& limits) { limits_.Set(limits); }

  // Whether the request is allowed. INVALID_ARGUMENT: the cost is above the capacity of a limit
  // that is not a shadow, so that it could never pass. Other errors: those of
  // TokenBucketStore::Decide, if the fail mode is kError.
  absl::StatusOr<Answer> Allow(const Request& request, Deadline deadline);

  // Decides each request as Allow does, in order and as if alone, in few round trips. When all are
  // decided, calls `tell` with each request's index and answer.
  void AllowAll(std::span<const Request> requests, Deadline deadline,
                absl::FunctionRef<void(std::size_t, const absl::StatusOr<Answer>&)> tell);

  // The state of the limits that apply to a request, whatever its cost. Changes nothing. If `limit`
  // is not empty, that limit is the deciding one. NOT_FOUND: no limit of that name applies.
  absl::StatusOr<Answer> GetUsage(const Request& request, std::string_view limit,
                                  Deadline deadline);

  // Returns the tokens that `request`, at its cost, took from the limits that apply to it, or from
  // `limit` alone if it is not empty, up to the capacity. NOT_FOUND: no limit of that name applies.
  absl::StatusOr<Answer> Refund(const Request& request, std::string_view limit, Deadline deadline);

  // Fills the buckets that the request would take from and that are its user's own (the limit
  // counts by user), or the bucket of `limit` if it is not empty, whatever that limit counts by.
  // Errors as GetUsage.
  absl::StatusOr<Answer> Reset(const Request& request, std::string_view limit, Deadline deadline);

  // Why each limit does or does not apply to a request, in file order. The result points into
  // `limits`.
  static std::vector<Explanation> Explain(const LimitSet& limits, const Request& request);

 private:
  // The answer to an evaluation whose transaction, if any, ended with `status`.
  absl::StatusOr<Answer> Finish(Evaluation& evaluation, const absl::Status& status);

  // Returns `tokens` of each matched limit to its bucket.
  absl::StatusOr<Answer> ReturnTokens(const Request& request, std::string_view limit,
                                      Deadline deadline,
                                      absl::FunctionRef<std::uint64_t(const MatchedLimit&)> tokens);

  Snapshot<LimitSet> limits_;
  TokenBucketStore& store_;
  Fallback* const fallback_;
};

}  // namespace ratelimiter
