#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include <absl/functional/any_invocable.h>
#include <absl/status/statusor.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/base/log.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/limiter/request.h"
#include "ratelimiter/limiter/token_bucket_store.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/service/concurrency_limiter.h"
#include "ratelimiter/service/readiness.h"

namespace ratelimiter {

// What every front (gRPC, the admin API) does with a request, apart from its protocol: admit or
// refuse it, decide it, count it by user and by limit; and the daemon's health.
//
// A front translates a call and its answer, and no more:
//
//   auto permit = service.Admit();
//   if (!permit) { service.CountError(user); return Answer(service.Refuse()); }
//   service.Allow(request, deadline, [&call](absl::StatusOr<Answer> answer) { … });
//
// Completions. A completion runs exactly once: on any thread, possibly before the method that it
// was passed to returns, never under a lock of this service. It must not throw or block. Until it
// runs, the caller owns the request, with all strings and spans that it points to, and the
// permit, and keeps them alive and unchanged; nothing points to them afterwards. A completion
// that captures no more than two pointers costs no allocation. Callers with a thread to wait on
// use Await (await.h).
//
// Thread-safe.
class DecisionService {
 public:
  // Requests in a batch; a front refuses others as INVALID_ARGUMENT.
  static constexpr std::size_t kMaxBatch = 1'000;

  struct Options {
    // See ConcurrencyLimiter.
    std::size_t max_in_flight = 1;
    // See Readiness.
    bool serves_without_store = false;
  };

  // The arguments must outlive this object, and `metrics` must not be scraped after it.
  DecisionService(Limiter& limiter, TokenBucketStore& store, Metrics& metrics,
                  std::shared_ptr<Logger> logger, const Options& options);

  // --- Admission ---

  // A permit for one call, whatever the number of its requests; empty: the call must be answered
  // with Refuse().
  ConcurrencyLimiter::Permit Admit() { return concurrency_.Acquire(); }
  // Counts a call that got no permit.
  Overload Refuse();
  // Counts a request that ended in an error before it came here, such as one of a refused call.
  void CountError(std::string_view user_id);

  // --- Decisions ---

  using Completion = absl::AnyInvocable<void(absl::StatusOr<Answer>) &&>;

  // Limiter::Allow. INVALID_ARGUMENT also if the request is not valid (Validate).
  void Allow(const Request& request, Deadline deadline, Completion completion);

  // Limiter::GetUsage, likewise. `limit` is the caller's as the request is.
  void GetUsage(const Request& request, std::string_view limit, Deadline deadline,
                Completion completion);

  // Limiter::AllowAll, likewise for each request. `answered` is called with the index and the
  // answer of each, in order; then `completion` runs.
  using Answered = absl::AnyInvocable<void(std::size_t, const absl::StatusOr<Answer>&)>;
  void AllowAll(std::span<const Request> requests, Deadline deadline, Answered answered,
                absl::AnyInvocable<void() &&> completion);

  // --- Health ---

  Readiness& readiness() { return readiness_; }
  Health health() const { return readiness_.health(); }

 private:
  void Count(const Request& request, const absl::StatusOr<Answer>& answer);
  void CountError(const Request& request, const absl::Status& error);

  Limiter& limiter_;
  Metrics& metrics_;
  ConcurrencyLimiter concurrency_;
  Readiness readiness_;
};

}  // namespace ratelimiter
