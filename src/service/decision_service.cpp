#include "ratelimiter/service/decision_service.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace ratelimiter {
namespace {

LimitStatus StatusOf(const LimitState& state) {
  if (state.decision.allowed) return LimitStatus::kAllowed;
  return state.limit->shadow ? LimitStatus::kShadowDenied : LimitStatus::kDenied;
}

}  // namespace

DecisionService::DecisionService(Limiter& limiter, TokenBucketStore& store, Metrics& metrics,
                                 std::shared_ptr<Logger> logger, const Options& options)
    : limiter_(limiter),
      metrics_(metrics),
      concurrency_(options.max_in_flight),
      readiness_(store, metrics, std::move(logger), options.serves_without_store) {
  metrics_.Publish(Metric::kInFlight, [this] { return concurrency_.in_flight(); });
}

Overload DecisionService::Refuse() {
  metrics_.CountShed();
  return concurrency_.Refuse();
}

void DecisionService::Allow(const Request& request, Deadline deadline, Completion completion) {
  const absl::Status valid = Validate(request);
  absl::StatusOr<Answer> answer = valid.ok() ? limiter_.Allow(request, deadline) : valid;
  Count(request, answer);
  std::move(completion)(std::move(answer));
}

void DecisionService::GetUsage(const Request& request, std::string_view limit, Deadline deadline,
                               Completion completion) {
  const absl::Status valid = Validate(request);
  std::move(completion)(valid.ok() ? limiter_.GetUsage(request, limit, deadline) : valid);
}

void DecisionService::AllowAll(std::span<const Request> requests, Deadline deadline,
                               Answered answered, absl::AnyInvocable<void() &&> completion) {
  const auto answer = [&](std::size_t i, const absl::StatusOr<Answer>& decided) {
    Count(requests[i], decided);
    answered(i, decided);
  };
  if (std::ranges::all_of(requests, [](const Request& one) { return Validate(one).ok(); })) {
    limiter_.AllowAll(requests, deadline, answer);
    return std::move(completion)();
  }
  // The limiter gets the valid ones; the rest is answered in between.
  std::vector<Request> valid;
  valid.reserve(requests.size());
  for (const Request& request : requests) {
    if (Validate(request).ok()) valid.push_back(request);
  }
  std::size_t next = 0;
  const auto answer_invalid = [&] {
    for (; next < requests.size(); ++next) {
      const absl::Status status = Validate(requests[next]);
      if (status.ok()) return;
      answer(next, status);
    }
  };
  limiter_.AllowAll(valid, deadline,
                    [&](std::size_t /*valid*/, const absl::StatusOr<Answer>& decided) {
                      answer_invalid();
                      answer(next++, decided);
                    });
  answer_invalid();
  std::move(completion)();
}

void DecisionService::CountError(std::string_view user_id) {
  // Nobody with such an id has a bucket, or a series.
  if (user_id.empty() || user_id.size() > kMaxUserIdBytes) {
    metrics_.requests().CountOther(RequestStatus::kError);
  } else {
    metrics_.CountRequest(user_id, RequestStatus::kError);
  }
}

void DecisionService::CountError(const Request& request, const absl::Status& error) {
  CountError(request.user_id);
  // No limit failed to decide an invalid request.
  if (absl::IsInvalidArgument(error)) return;
  const auto limits = limiter_.limits();
  for (const MatchedLimit& match : limits->Match(request)) {
    metrics_.decisions().Count(match.limit->name, LimitStatus::kError);
  }
}

void DecisionService::Count(const Request& request, const absl::StatusOr<Answer>& answer) {
  if (!answer.ok()) return CountError(request, answer.status());
  // Looks and dry runs are not counted; their errors are.
  if (!request.charges()) return;
  metrics_.CountRequest(request.user_id,
                        answer->allowed ? RequestStatus::kAllowed : RequestStatus::kDenied);
  // When a limit of capacity 0 denies the request, the others decide nothing.
  const LimitState* const deciding = answer->deciding_state();
  const bool blocked = !answer->allowed && deciding != nullptr && deciding->spec.capacity == 0;
  for (const LimitState& state : answer->states) {
    if (blocked && state.spec.capacity != 0) continue;
    metrics_.decisions().Count(state.limit->name, StatusOf(state));
  }
}

}  // namespace ratelimiter
