#include "ratelimiter/server/rate_limiter_service.h"

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/status.h>
#include <fmt/format.h>

#include "call_ids.h"
#include "call_log.h"
#include "message_translation.h"
#include "rate_limit_headers.h"
#include "status_mapping.h"

namespace ratelimiter {
namespace {

constexpr int kMaxRequests = 1'000;

Deadline DeadlineOf(const grpc::ServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return Deadline::max();
  return std::chrono::steady_clock::now() + (deadline - std::chrono::system_clock::now());
}

LimitStatus StatusOf(const LimitState& state) {
  if (state.decision.allowed) return LimitStatus::kAllowed;
  return state.limit->shadow ? LimitStatus::kShadowDenied : LimitStatus::kDenied;
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
  const ConcurrencyLimiter::Permit permit = concurrency_.Acquire();
  if (!permit) {
    CountError(message->user_id());
    return Shed();
  }
  Attributes attributes;
  const Origin origin{*context};
  Request request{.origin = &origin};
  const absl::Status valid = Translate(*message, attributes, request);
  const absl::StatusOr<Answer> answer =
      valid.ok() ? limiter_.Allow(request, DeadlineOf(*context)) : valid;
  Count(request, answer);
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
  const ConcurrencyLimiter::Permit permit = concurrency_.Acquire();
  if (!permit) return Shed();
  Attributes attributes;
  Request request;
  if (const absl::Status valid = Translate(*message, attributes, request); !valid.ok()) {
    return ToGrpcStatus(valid);
  }
  const absl::StatusOr<Answer> usage =
      limiter_.GetUsage(request, message->limit_name(), DeadlineOf(*context));
  if (!usage.ok()) return ToGrpcStatus(usage.status());
  Translate(*usage, *response);
  return grpc::Status::OK;
}

grpc::Status RateLimiterService::AllowAll(grpc::ServerContext* context,
                                          const limiter::AllowRequestsRequest* message,
                                          limiter::AllowRequestsResponse* response) {
  const ConcurrencyLimiter::Permit permit = concurrency_.Acquire();
  const int size = message->requests_size();
  const bool acceptable = size >= 1 && size <= kMaxRequests;
  if (!permit) {
    if (!acceptable) return Shed();
    for (const auto& request : message->requests()) CountError(request.user_id());
    return Shed();
  }
  if (!acceptable) {
    return ToGrpcStatus(absl::InvalidArgumentError(
        fmt::format("there are {} requests; accepted: 1 to {}", size, kMaxRequests)));
  }
  std::size_t attributes_size = 0;
  for (const auto& request : message->requests()) {
    attributes_size += static_cast<std::size_t>(request.attributes_size());
  }
  const Origin origin{*context};
  Attributes attributes;
  attributes.reserve(attributes_size);
  std::vector<Request> asked;
  asked.reserve(static_cast<std::size_t>(size));
  std::vector<limiter::AllowRequestsResult*> results;  // By request asked.
  results.reserve(static_cast<std::size_t>(size));
  const auto fail = [](const absl::Status& status, limiter::AllowRequestsResult& result) {
    result.set_code(static_cast<std::uint32_t>(status.code()));
    result.set_message(std::string(status.message()));
  };
  for (const limiter::AllowRequestRequest& request : message->requests()) {
    limiter::AllowRequestsResult& result = *response->add_results();
    Request translated{.origin = &origin};
    if (const absl::Status valid = Translate(request, attributes, translated); valid.ok()) {
      asked.push_back(translated);
      results.push_back(&result);
    } else {
      CountError(request.user_id());
      fail(valid, result);
    }
  }
  limiter_.AllowAll(asked, DeadlineOf(*context),
                    [&](std::size_t i, const absl::StatusOr<Answer>& answer) {
                      Count(asked[i], answer);
                      if (answer.ok()) {
                        results[i]->set_code(static_cast<std::uint32_t>(absl::StatusCode::kOk));
                        Translate(asked[i], *answer, *results[i]->mutable_response());
                      } else {
                        fail(answer.status(), *results[i]);
                      }
                    });
  return grpc::Status::OK;
}

absl::StatusOr<Answer> RateLimiterService::Allow(const Request& request, Deadline deadline) {
  absl::StatusOr<Answer> answer = limiter_.Allow(request, deadline);
  Count(request, answer);
  return answer;
}

grpc::Status RateLimiterService::Shed() {
  metrics_.CountShed();
  return concurrency_.Refusal();
}

void RateLimiterService::CountError(std::string_view user_id) {
  if (user_id.empty() || user_id.size() > kMaxUserIdBytes) {
    metrics_.requests().CountOther(RequestStatus::kError);
  } else {
    metrics_.CountRequest(user_id, RequestStatus::kError);
  }
}

void RateLimiterService::CountError(const Request& request, const absl::Status& error) {
  CountError(request.user_id);
  if (absl::IsInvalidArgument(error)) return;
  const auto limits = limiter_.limits();
  for (const MatchedLimit& match : limits->Match(request)) {
    metrics_.decisions().Count(match.limit->name, LimitStatus::kError);
  }
}

void RateLimiterService::Count(const Request& request, const absl::StatusOr<Answer>& answer) {
  if (!answer.ok()) return CountError(request, answer.status());
  // A look and a dry run are not counted; what went wrong is.
  if (!request.charges()) return;
  metrics_.CountRequest(request.user_id,
                        answer->allowed ? RequestStatus::kAllowed : RequestStatus::kDenied);
  // Beside a limit of capacity 0 that refuses, others decide nothing.
  const LimitState* const deciding = answer->deciding_state();
  const bool blocked = !answer->allowed && deciding != nullptr && deciding->spec.capacity == 0;
  for (const LimitState& state : answer->states) {
    if (blocked && state.spec.capacity != 0) continue;
    metrics_.decisions().Count(state.limit->name, StatusOf(state));
  }
}

}  // namespace ratelimiter
