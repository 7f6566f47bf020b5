#pragma once

#include "limiter/limiter.grpc.pb.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/metrics/metrics.h"

namespace ratelimiter {

// limiter.RateLimiter, as limiter.proto states it: checks and translates, and
// leaves the decision to the limiter.
//
// Thread-safe. What it is given must outlive it.
class RateLimiterService final : public limiter::RateLimiter::Service {
 public:
  // `headers`: whether AllowRequest's answers carry RateLimit and
  // RateLimit-Policy as initial metadata.
  RateLimiterService(Limiter& limiter, Metrics& metrics, bool headers)
      : limiter_(limiter), metrics_(metrics), headers_(headers) {}

  grpc::Status AllowRequest(grpc::ServerContext* context,
                            const limiter::AllowRequestRequest* message,
                            limiter::AllowRequestResponse* response) override;

  grpc::Status GetUsage(grpc::ServerContext* context, const limiter::GetUsageRequest* message,
                        limiter::GetUsageResponse* response) override;

  grpc::Status AllowRequests(grpc::ServerContext* context,
                             const limiter::AllowRequestsRequest* message,
                             limiter::AllowRequestsResponse* response) override;

 private:
  // Counts what came of a request, by its user and by the limits.
  void Count(const Request& request, const absl::StatusOr<Answer>& answer);

  Limiter& limiter_;
  Metrics& metrics_;
  const bool headers_;
};

}  // namespace ratelimiter
