#pragma once

#include "limiter/limiter.grpc.pb.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/metrics/request_counter.h"

namespace ratelimiter {

// limiter.RateLimiter, as limiter.proto states it: checks and translates, and
// leaves the decision to the limiter.
//
// Thread-safe. What it is given must outlive it.
class RateLimiterService final : public limiter::RateLimiter::Service {
 public:
  RateLimiterService(Limiter& limiter, RequestCounter& requests)
      : limiter_(limiter), requests_(requests) {}

  grpc::Status AllowRequest(grpc::ServerContext* context,
                            const limiter::AllowRequestRequest* message,
                            limiter::AllowRequestResponse* response) override;

  grpc::Status GetUsage(grpc::ServerContext* context, const limiter::GetUsageRequest* request,
                        limiter::GetUsageResponse* response) override;

 private:
  Limiter& limiter_;
  RequestCounter& requests_;
};

}  // namespace ratelimiter
