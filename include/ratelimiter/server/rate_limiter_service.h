#pragma once

#include <cstddef>
#include <string_view>

#include "limiter/limiter.grpc.pb.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/server/concurrency_limiter.h"

namespace ratelimiter {

class CallLog;

// limiter.RateLimiter, as limiter.proto states it: checks and translates, and
// leaves the decision to the limiter. A call beyond those that may be in flight is
// refused before anything else.
//
// Thread-safe. What it is given must outlive it.
class RateLimiterService final : public limiter::RateLimiter::Service {
 public:
  // `max_in_flight`: see ConcurrencyLimiter. `headers`: whether AllowRequest's answers
  // carry RateLimit and RateLimit-Policy as initial metadata.
  RateLimiterService(Limiter& limiter, Metrics& metrics, CallLog& call_log,
                     std::size_t max_in_flight, bool headers)
      : limiter_(limiter),
        metrics_(metrics),
        call_log_(call_log),
        headers_(headers),
        concurrency_(max_in_flight) {}

  // Calls that are worked on now.
  std::size_t in_flight() const { return concurrency_.in_flight(); }

  grpc::Status AllowRequest(grpc::ServerContext* context,
                            const limiter::AllowRequestRequest* message,
                            limiter::AllowRequestResponse* response) override;

  grpc::Status GetUsage(grpc::ServerContext* context, const limiter::GetUsageRequest* message,
                        limiter::GetUsageResponse* response) override;

  grpc::Status AllowRequests(grpc::ServerContext* context,
                             const limiter::AllowRequestsRequest* message,
                             limiter::AllowRequestsResponse* response) override;

  // Decides and counts a request as AllowRequest does, beside the calls in flight.
  absl::StatusOr<Answer> Allow(const Request& request, Deadline deadline);

 private:
  // The methods, beside which those above keep metrics and the log.
  grpc::Status Allow(grpc::ServerContext* context, const limiter::AllowRequestRequest* message,
                     limiter::AllowRequestResponse* response);
  grpc::Status Look(grpc::ServerContext* context, const limiter::GetUsageRequest* message,
                    limiter::GetUsageResponse* response);
  grpc::Status AllowAll(grpc::ServerContext* context, const limiter::AllowRequestsRequest* message,
                        limiter::AllowRequestsResponse* response);

  // Counts and answers a call that found no place.
  grpc::Status Shed();
  // Counts a request that ended in an error. One whose user could have no bucket
  // is counted as nobody's.
  void CountError(std::string_view user_id);
  // The same of one that the limiter had; by the limits as well where nobody decided it.
  void CountError(const Request& request, const absl::Status& error);
  // Counts what came of a request, by its user and by the limits.
  void Count(const Request& request, const absl::StatusOr<Answer>& answer);

  Limiter& limiter_;
  Metrics& metrics_;
  CallLog& call_log_;
  const bool headers_;
  ConcurrencyLimiter concurrency_;
};

}  // namespace ratelimiter
