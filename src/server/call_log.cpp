#include "call_log.h"

#include <charconv>
#include <limits>
#include <random>
#include <string_view>
#include <utility>

#include <absl/status/status.h>
#include <fmt/format.h>

#include "ratelimiter/base/mix.h"

namespace ratelimiter {
namespace {

constexpr std::uint64_t kHighest = std::numeric_limits<std::uint64_t>::max();

std::uint64_t HighestOf(Fraction fraction) {
  if (fraction.millionths == Fraction::kAll) return kHighest;
  return kHighest / Fraction::kAll * fraction.millionths;
}

std::uint64_t Random() {
  std::random_device random;
  return (std::uint64_t{random()} << 32U) | random();
}

std::uint64_t Micros(std::chrono::steady_clock::duration time) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(time).count());
}

std::uint64_t Micros(const google::protobuf::Duration& time) {
  return static_cast<std::uint64_t>(time.seconds()) * 1'000'000 +
         static_cast<std::uint64_t>(time.nanos()) / 1'000;
}

// What a line tells of a request and its answer, by the method. The strings are the
// messages'.
void Append(const limiter::AllowRequestRequest& message,
            const limiter::AllowRequestResponse& response, bool ok, LogFields& fields) {
  fields.push_back({"method", "AllowRequest"});
  fields.push_back({"status", !ok ? "error" : response.allowed() ? "allowed" : "denied"});
  fields.push_back({"user_id", message.user_id()});
  fields.push_back({"path", message.path()});
  fields.push_back({"cost", std::uint64_t{message.has_cost() ? message.cost() : 1}});
  if (message.dry_run()) fields.push_back({"dry_run", true});
  if (!ok) return;
  if (response.has_limit_name()) {
    fields.push_back({"limit", response.limit_name()});
    fields.push_back({"remaining", std::uint64_t{response.remaining()}});
  }
  if (response.has_retry_after()) {
    fields.push_back({"retry_after_us", Micros(response.retry_after())});
  }
  if (response.has_fail_mode()) fields.push_back({"fail_mode", response.fail_mode()});
}

void Append(const limiter::GetUsageRequest& message, const limiter::GetUsageResponse& response,
            bool ok, LogFields& fields) {
  fields.push_back({"method", "GetUsage"});
  if (!ok) fields.push_back({"status", "error"});
  fields.push_back({"user_id", message.user_id()});
  fields.push_back({"path", message.path()});
  if (!ok || !response.has_limit_name()) return;
  fields.push_back({"limit", response.limit_name()});
  fields.push_back(
      {"remaining", std::uint64_t{response.requests_allowed()} - response.requests_used()});
}

void Append(const limiter::AllowRequestsRequest& message,
            const limiter::AllowRequestsResponse& response, bool ok, LogFields& fields) {
  fields.push_back({"method", "AllowRequests"});
  if (!ok) fields.push_back({"status", "error"});
  fields.push_back({"requests", static_cast<std::uint64_t>(message.requests_size())});
  if (!ok) return;
  std::uint64_t allowed = 0;
  std::uint64_t denied = 0;
  std::uint64_t errors = 0;
  for (const limiter::AllowRequestsResult& result : response.results()) {
    ++(result.code() != 0 ? errors : result.response().allowed() ? allowed : denied);
  }
  fields.push_back({"allowed", allowed});
  fields.push_back({"denied", denied});
  fields.push_back({"errors", errors});
}

}  // namespace

CallLog::CallLog(std::optional<Fraction> fraction, std::shared_ptr<Logger> logger)
    : logger_(std::move(logger)),
      on_(fraction.has_value() && logger_->level() != spdlog::level::off),
      highest_(on_ ? HighestOf(*fraction) : 0),
      instance_(Random()),
      seed_(Random()) {}

bool CallLog::Samples(const std::optional<TraceParent>& trace) {
  if (highest_ == kHighest) return true;
  std::uint64_t number = 0;
  if (trace.has_value() && trace->sampled) {
    // The right half, for that is where ids are random by the specification.
    const char* const end = trace->trace_id.data() + trace->trace_id.size();
    std::from_chars(end - 16, end, number, 16);
  } else {
    number = seed_ + count_.fetch_add(1, std::memory_order_relaxed);
  }
  return Mix(number) <= highest_;
}

std::string CallLog::NewRequestId() {
  const std::uint64_t number = Mix(seed_ + count_.fetch_add(1, std::memory_order_relaxed));
  return fmt::format("{:016x}{:016x}", instance_, number);
}

void LoggedCall::End(const grpc::Status& status, const auto& message, const auto& response) {
  const auto& metadata = context_.client_metadata();
  const bool asked = metadata.contains("x-request-id");
  std::optional<TraceParent> trace;
  if (log_.on()) trace = TraceParentOf(context_);
  const bool logged = log_.on() && log_.Samples(trace);
  if (!asked && !logged) return;

  const std::optional<std::string_view> sent = RequestIdOf(context_);
  const std::string id = sent.has_value() ? std::string(*sent) : log_.NewRequestId();
  context_.AddInitialMetadata("x-request-id", id);
  if (!logged) return;

  LogFields fields;
  Append(message, response, status.ok(), fields);
  const std::string code =
      absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code()));
  fields.push_back({"code", code});
  const std::string error = status.error_message();
  if (!status.ok()) fields.push_back({"error", error});
  fields.push_back({"duration_us", Micros(std::chrono::steady_clock::now() - begun_)});
  const std::string peer = context_.peer();
  fields.push_back({"peer", peer});
  fields.push_back({"request_id", id});
  AppendTrace(trace, fields);
  log_.logger().Write(LogKind::kAccess, spdlog::level::info, "call", fields);
}

grpc::Status LoggedCall::EndWith(grpc::Status status, const limiter::AllowRequestRequest& message,
                                 const limiter::AllowRequestResponse& response) {
  End(status, message, response);
  return status;
}

grpc::Status LoggedCall::EndWith(grpc::Status status, const limiter::GetUsageRequest& message,
                                 const limiter::GetUsageResponse& response) {
  End(status, message, response);
  return status;
}

grpc::Status LoggedCall::EndWith(grpc::Status status, const limiter::AllowRequestsRequest& message,
                                 const limiter::AllowRequestsResponse& response) {
  End(status, message, response);
  return status;
}

}  // namespace ratelimiter
