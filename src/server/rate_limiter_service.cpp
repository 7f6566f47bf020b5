#include "ratelimiter/server/rate_limiter_service.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>
#include <fmt/format.h>
#include <grpc/support/time.h>

#include "call_log.h"
#include "call_metadata.h"
#include "message_translation.h"
#include "rate_limit_headers.h"
#include "ratelimiter/base/time.h"
#include "ratelimiter/service/await.h"
#include "status_mapping.h"

namespace ratelimiter {
namespace {

// Not from context.deadline(): gRPC's conversion to system_clock overflows for the longest
// deadlines that clients send, and makes them past ones.
Deadline DeadlineOf(const grpc::ServerContext& context) {
  const gpr_timespec deadline = context.raw_deadline();
  if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0) return Deadline::max();
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
  return SaturatingAdd(
      SaturatingAdd(std::chrono::steady_clock::now(), std::chrono::seconds(left.tv_sec)),
      std::chrono::nanoseconds(left.tv_nsec));
}

}  // namespace

grpc::Status RateLimiterService::AllowRequest(grpc::ServerContext* context,
                                              const limiter::AllowRequestRequest* message,
                                              limiter::AllowRequestResponse* response) {
  LoggedCall logged(call_log_, *context);
  ObservedCall observed(metrics_.calls(), CallMethod::kAllowRequest);
  return logged.EndWith(observed.EndWith(Allow(context, message, response)), *message, *response);
}

grpc::Status RateLimiterService::GetUsage(grpc::ServerContext* context,
                                          const limiter::GetUsageRequest* message,
                                          limiter::GetUsageResponse* response) {
  LoggedCall logged(call_log_, *context);
  ObservedCall observed(metrics_.calls(), CallMethod::kGetUsage);
  return logged.EndWith(observed.EndWith(Look(context, message, response)), *message, *response);
}

grpc::Status RateLimiterService::AllowRequests(grpc::ServerContext* context,
                                               const limiter::AllowRequestsRequest* message,
                                               limiter::AllowRequestsResponse* response) {
  LoggedCall logged(call_log_, *context);
  ObservedCall observed(metrics_.calls(), CallMethod::kAllowRequests);
  return logged.EndWith(observed.EndWith(AllowAll(context, message, response)), *message,
                        *response);
}

grpc::Status RateLimiterService::Allow(grpc::ServerContext* context,
                                       const limiter::AllowRequestRequest* message,
                                       limiter::AllowRequestResponse* response) {
  const ConcurrencyLimiter::Permit permit = service_.Admit();
  if (!permit) {
    service_.CountError(message->user_id());
    return ToGrpcStatus(service_.Refuse());
  }
  Attributes attributes;
  const GrpcOrigin origin(*context);
  Request request{.origin = &origin};
  Translate(*message, attributes, request);
  const auto answer = Await<absl::StatusOr<Answer>>([&](auto completion) {
    service_.Allow(request, DeadlineOf(*context), std::move(completion));
  });
  if (!answer.ok()) return ToGrpcStatus(answer.status());

  Translate(request, *answer, *response);
  if (headers_) {
    const RateLimitHeaders headers = RateLimitHeadersOf(*answer);
    if (!headers.policy.empty()) {
      context->AddInitialMetadata("ratelimit-policy", headers.policy);
      context->AddInitialMetadata("ratelimit", headers.state);
    }
  }
  return grpc::Status::OK;
}

grpc::Status RateLimiterService::Look(grpc::ServerContext* context,
                                      const limiter::GetUsageRequest* message,
                                      limiter::GetUsageResponse* response) {
  const ConcurrencyLimiter::Permit permit = service_.Admit();
  if (!permit) return ToGrpcStatus(service_.Refuse());
  Attributes attributes;
  Request request;
  Translate(*message, attributes, request);
  const auto usage = Await<absl::StatusOr<Answer>>([&](auto completion) {
    service_.GetUsage(request, message->limit_name(), DeadlineOf(*context), std::move(completion));
  });
  if (!usage.ok()) return ToGrpcStatus(usage.status());
  Translate(*usage, *response);
  return grpc::Status::OK;
}

grpc::Status RateLimiterService::AllowAll(grpc::ServerContext* context,
                                          const limiter::AllowRequestsRequest* message,
                                          limiter::AllowRequestsResponse* response) {
  const auto size = static_cast<std::size_t>(message->requests_size());
  const bool acceptable = size >= 1 && size <= DecisionService::kMaxBatch;
  const ConcurrencyLimiter::Permit permit = service_.Admit();
  if (!permit) {
    if (acceptable) {
      for (const auto& request : message->requests()) service_.CountError(request.user_id());
    }
    return ToGrpcStatus(service_.Refuse());
  }
  if (!acceptable) {
    return {
        grpc::StatusCode::INVALID_ARGUMENT,
        fmt::format("there are {} requests; accepted: 1 to {}", size, DecisionService::kMaxBatch)};
  }
  std::size_t attributes_size = 0;
  for (const auto& request : message->requests()) {
    attributes_size += static_cast<std::size_t>(request.attributes_size());
  }
  const GrpcOrigin origin(*context);
  Attributes attributes;
  attributes.reserve(attributes_size);
  std::vector<Request> requests;
  requests.reserve(size);
  for (const limiter::AllowRequestRequest& request : message->requests()) {
    Translate(request, attributes, requests.emplace_back(Request{.origin = &origin}));
  }
  response->mutable_results()->Reserve(message->requests_size());
  const auto answered = [&](std::size_t i, const absl::StatusOr<Answer>& answer) {
    limiter::AllowRequestsResult& result = *response->add_results();
    result.set_code(static_cast<std::uint32_t>(answer.status().code()));
    if (answer.ok()) {
      Translate(requests[i], *answer, *result.mutable_response());
    } else {
      result.set_message(std::string(answer.status().message()));
    }
  };
  Event completed;
  service_.AllowAll(requests, DeadlineOf(*context), answered, [&] { completed.Signal(); });
  completed.Wait();
  return grpc::Status::OK;
}

}  // namespace ratelimiter
