#pragma once

#include "limiter/limiter.grpc.pb.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/service/decision_service.h"

namespace ratelimiter {

class CallLog;

// limiter.RateLimiter, as limiter.proto specifies it: translates between gRPC and the decision
// service.
//
// Thread-safe.
class RateLimiterService final : public limiter::RateLimiter::Service {
 public:
  // `headers`: whether AllowRequest answers with RateLimit and RateLimit-Policy as initial
  // metadata. The other arguments must outlive this object.
  RateLimiterService(DecisionService& service, Metrics& metrics, CallLog& call_log, bool headers)
      : service_(service), metrics_(metrics), call_log_(call_log), headers_(headers) {}

  grpc::Status AllowRequest(grpc::ServerContext* context,
                            const limiter::AllowRequestRequest* message,
                            limiter::AllowRequestResponse* response) override;

  grpc::Status GetUsage(grpc::ServerContext* context, const limiter::GetUsageRequest* message,
                        limiter::GetUsageResponse* response) override;

  grpc::Status AllowRequests(grpc::ServerContext* context,
                             const limiter::AllowRequestsRequest* message,
                             limiter::AllowRequestsResponse* response) override;

 private:
  // The methods without metrics and access log.
  grpc::Status Allow(grpc::ServerContext* context, const limiter::AllowRequestRequest* message,
                     limiter::AllowRequestResponse* response);
  grpc::Status Look(grpc::ServerContext* context, const limiter::GetUsageRequest* message,
                    limiter::GetUsageResponse* response);
  grpc::Status AllowAll(grpc::ServerContext* context, const limiter::AllowRequestsRequest* message,
                        limiter::AllowRequestsResponse* response);

  DecisionService& service_;
  Metrics& metrics_;
  CallLog& call_log_;
  const bool headers_;
};

}  // namespace ratelimiter
