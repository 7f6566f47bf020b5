#include "ratelimiter/server/rate_limiter_service.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include <absl/status/status.h>
#include <fmt/format.h>

#include "status_mapping.h"

namespace ratelimiter {
namespace {

constexpr std::size_t kMaxUserIdBytes = 256;
constexpr std::size_t kMaxPathBytes = 1024;

// protobuf has checked that strings are valid UTF-8.
absl::Status CheckUserId(std::string_view user_id) {
  if (!user_id.empty() && user_id.size() <= kMaxUserIdBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      user_id.empty() ? fmt::format("user_id is empty; accepted: 1 to {} bytes", kMaxUserIdBytes)
                      : fmt::format("user_id is {} bytes long; accepted: 1 to {} bytes",
                                    user_id.size(), kMaxUserIdBytes));
}

absl::Status CheckPath(std::string_view path) {
  if (path.size() <= kMaxPathBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("path is {} bytes long; accepted: at most {} bytes", path.size(), kMaxPathBytes));
}

// Counts are 32-bit on the wire, for JSON shows 64-bit integers as strings.
std::uint32_t WireCount(std::uint64_t count) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
  return static_cast<std::uint32_t>(std::min(count, kMost));
}

void SetDuration(std::chrono::microseconds from, google::protobuf::Duration& to) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(from);
  to.set_seconds(seconds.count());
  to.set_nanos(static_cast<std::int32_t>(std::chrono::nanoseconds(from - seconds).count()));
}

Deadline DeadlineOf(const grpc::ServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return Deadline::max();
  return std::chrono::steady_clock::now() + (deadline - std::chrono::system_clock::now());
}

std::string RefusalReason(const Request& request, const Limit& limit, const Decision& decision) {
  return fmt::format("Limit \"{}\" exceeded: cost {}, {} of {} tokens left", limit.name,
                     request.cost, decision.remaining, limit.capacity);
}

RequestStatus CountedStatus(const absl::StatusOr<Decision>& decision) {
  if (!decision.ok()) return RequestStatus::kError;
  return decision->allowed ? RequestStatus::kAllowed : RequestStatus::kDenied;
}

}  // namespace

grpc::Status RateLimiterService::AllowRequest(grpc::ServerContext* context,
                                              const limiter::AllowRequestRequest* message,
                                              limiter::AllowRequestResponse* response) {
  const Request request = {.user_id = message->user_id(),
                           .path = message->path(),
                           .cost = message->has_cost() ? message->cost() : 1,
                           .dry_run = message->dry_run()};
  if (const absl::Status user_id = CheckUserId(request.user_id); !user_id.ok()) {
    requests_.CountUnnamed(RequestStatus::kError);
    return ToGrpcStatus(user_id);
  }
  const absl::Status path = CheckPath(request.path);
  const absl::StatusOr<Decision> decision =
      path.ok() ? limiter_.Allow(request, DeadlineOf(*context)) : path;
  // A look and a dry run are not counted; what went wrong is.
  if (request.charges() || !decision.ok()) {
    requests_.Count(request.user_id, CountedStatus(decision));
  }
  if (!decision.ok()) return ToGrpcStatus(decision.status());

  const Limit& limit = limiter_.limit();
  response->set_allowed(decision->allowed);
  response->set_remaining(WireCount(decision->remaining));
  response->set_limit(WireCount(limit.capacity));
  SetDuration(decision->reset_after, *response->mutable_reset_after());
  if (decision->allowed) {
    response->set_reason("Request allowed");
  } else {
    response->set_reason(RefusalReason(request, limit, *decision));
    SetDuration(decision->retry_after, *response->mutable_retry_after());
  }
  return grpc::Status::OK;
}

grpc::Status RateLimiterService::GetUsage(grpc::ServerContext* context,
                                          const limiter::GetUsageRequest* request,
                                          limiter::GetUsageResponse* response) {
  if (const absl::Status user_id = CheckUserId(request->user_id()); !user_id.ok()) {
    return ToGrpcStatus(user_id);
  }
  const absl::StatusOr<Usage> usage = limiter_.GetUsage(request->user_id(), DeadlineOf(*context));
  if (!usage.ok()) return ToGrpcStatus(usage.status());
  response->set_requests_used(WireCount(usage->used));
  response->set_requests_allowed(WireCount(usage->allowed));
  return grpc::Status::OK;
}

}  // namespace ratelimiter
