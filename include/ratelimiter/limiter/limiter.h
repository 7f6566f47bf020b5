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
#include "ratelimiter/base/snapshot.h"
#include "ratelimiter/limiter/bucket_spec.h"
#include "ratelimiter/limiter/fail_mode.h"
#include "ratelimiter/limiter/fallback.h"
#include "ratelimiter/limiter/limit_set.h"
#include "ratelimiter/limiter/request.h"
#include "ratelimiter/limiter/token_bucket_store.h"

namespace ratelimiter {

// What one limit says of a request.
struct LimitState {
  const Limit* limit = nullptr;
  // The numbers of its bucket for this request.
  BucketSpec spec{};
  // Of a limit that always refuses (capacity 0), and of a shadow whose capacity
  // the cost exceeds, a refusal has no retry_after: it would never pass.
  Decision decision{};
};

// What all limits say of a request together.
struct Answer {
  // No limit that is not a shadow refuses.
  bool allowed = true;
  // Every limit that the request is subject to, in the order of the file. Where
  // it is known without asking that one refuses, as those of capacity 0 always do,
  // those that were asked (see Request::details).
  absl::InlinedVector<LimitState, 4> states{};
  // The one that tells most, by its place in `states`. Refused: the limit with
  // the longest wait. Allowed: the one with the fewest calls left at this cost.
  // Ties go to the first of the file; shadows do not count. None: no limit that
  // could refuse applies.
  std::optional<std::size_t> deciding{};
  // What the states point into.
  std::shared_ptr<const LimitSet> limits{};
  // What decided in place of a store that failed. None: the store did. Of kLocal the
  // states have the numbers of this instance's buckets; else there are none.
  std::optional<FailMode> fail_mode{};

  const LimitState* deciding_state() const {
    return deciding.has_value() ? &states[*deciding] : nullptr;
  }
};

// For people: "Request allowed", or which limit refused the request and what was
// missing; and where the store did not decide, that it did not.
std::string ReasonOf(const Request& request, const Answer& answer);

// Why a limit does or does not apply to a request, and what it would count.
struct Explanation {
  const Limit* limit = nullptr;
  bool applies = false;
  // For people: which condition holds or does not.
  std::string why;
  // Where it applies: the numbers, or none if an override makes it unlimited;
  // and the bucket's subject.
  std::optional<BucketSpec> spec{};
  std::string bucket_key;
};

// Chooses the limits that a request is subject to, and has the store decide them
// together: all pay, or none does.
//
// Thread-safe. What it is given must outlive it.
class Limiter {
 public:
  // `fallback`: decides whether requests are allowed where the store fails; nullptr:
  // then they get the store's error. What else is asked of the store gets it always.
  Limiter(const std::shared_ptr<const LimitSet>& limits, TokenBucketStore& store,
          Fallback* fallback = nullptr);

  // The limits in force. Calls that began before a SetLimits end by those they
  // began with.
  std::shared_ptr<const LimitSet> limits() const { return limits_.Get(); }
  void SetLimits(const std::shared_ptr<const LimitSet>& limits) { limits_.Set(limits); }

  // INVALID_ARGUMENT if the cost is above the capacity of a limit that is not a
  // shadow: it could never pass. Other errors: TokenBucketStore::Decide's, as far as
  // the limits' fail modes leave them.
  absl::StatusOr<Answer> Allow(const Request& request, Deadline deadline);

  // The same for each request as if alone, in order, in few round trips: `tell` is
  // called with each one's place and answer when all are decided.
  void AllowAll(std::span<const Request> requests, Deadline deadline,
                absl::FunctionRef<void(std::size_t, const absl::StatusOr<Answer>&)> tell);

  // How the limits stand for a request, whatever its cost; changes nothing. With
  // a limit named, that one is the deciding one. NOT_FOUND: the request is not
  // subject to a limit of that name.
  absl::StatusOr<Answer> GetUsage(const Request& request, std::string_view limit,
                                  Deadline deadline);

  // Puts back what `request` (of its cost) paid to each limit that it is subject
  // to, or to the one named alone, up to the capacity. NOT_FOUND: the request is
  // not subject to a limit of that name.
  absl::StatusOr<Answer> Refund(const Request& request, std::string_view limit, Deadline deadline);

  // Makes full each bucket of the request's user that the request would pay
  // from, or the one of the limit named, whatever it counts by. Errors as GetUsage.
  absl::StatusOr<Answer> Reset(const Request& request, std::string_view limit, Deadline deadline);

  // What each limit has to do with a request, in the order of the file. They
  // point into `limits`.
  static std::vector<Explanation> Explain(const LimitSet& limits, const Request& request);

 private:
  // What came of a request to allow, if what was asked of the store, if anything was,
  // ended with `status`.
  absl::StatusOr<Answer> Finish(Evaluation& evaluation, const absl::Status& status);

  // Puts back into the buckets of the request what `tokens` says for each.
  absl::StatusOr<Answer> Give(const Request& request, std::string_view limit, Deadline deadline,
                              absl::FunctionRef<std::uint64_t(const MatchedLimit&)> tokens);

  Snapshot<LimitSet> limits_;
  TokenBucketStore& store_;
  Fallback* const fallback_;
};

}  // namespace ratelimiter
