#include "message_translation.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <string_view>

namespace ratelimiter {
namespace {

// protobuf has checked that strings are valid UTF-8.
void TranslateCommon(const auto& message, Attributes& attributes, Request& request) {
  request.user_id = message.user_id();
  request.path = message.path();
  const std::size_t others = attributes.size();
  for (const auto& [key, value] : message.attributes()) attributes.push_back({key, value});
  request.attributes = std::span<const AttributeView>(attributes).subspan(others);
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

void SetNumbers(const LimitState& state, auto& message) {
  message.set_remaining(WireCount(state.decision.remaining));
  message.set_limit(WireCount(state.spec.capacity));
  SetDuration(state.decision.reset_after, *message.mutable_reset_after());
  if (const auto retry_after = state.retry_after(); retry_after.has_value()) {
    SetDuration(*retry_after, *message.mutable_retry_after());
  }
}

void AddStates(const Answer& answer, auto& states) {
  states.Reserve(static_cast<int>(answer.states.size()));
  for (const LimitState& state : answer.states) {
    limiter::LimitState& message = *states.Add();
    message.set_name(state.limit->name);
    message.set_shadow(state.limit->shadow);
    message.set_allowed(state.decision.allowed);
    SetNumbers(state, message);
  }
}

}  // namespace

void Translate(const limiter::AllowRequestRequest& message, Attributes& attributes,
               Request& request) {
  request.cost = message.has_cost() ? message.cost() : 1;
  request.dry_run = message.dry_run();
  request.details = message.details();
  TranslateCommon(message, attributes, request);
}

void Translate(const limiter::GetUsageRequest& message, Attributes& attributes, Request& request) {
  TranslateCommon(message, attributes, request);
}

void Translate(const Request& request, const Answer& answer,
               limiter::AllowRequestResponse& response) {
  response.set_allowed(answer.allowed);
  const LimitState* const deciding = answer.deciding_state();
  if (deciding != nullptr) {
    SetNumbers(*deciding, response);
    response.set_limit_name(deciding->limit->name);
  }
  if (answer.fail_mode.has_value()) {
    const std::string_view mode = NameOf(*answer.fail_mode);
    response.set_fail_mode(mode.data(), mode.size());
  }
  response.set_reason(ReasonOf(request, answer));
  if (request.details) AddStates(answer, *response.mutable_limits());
}

void Translate(const Answer& answer, limiter::GetUsageResponse& response) {
  if (const LimitState* const deciding = answer.deciding_state(); deciding != nullptr) {
    const std::uint64_t capacity = deciding->spec.capacity;
    response.set_requests_used(WireCount(capacity - deciding->decision.remaining));
    response.set_requests_allowed(WireCount(capacity));
    response.set_limit_name(deciding->limit->name);
  }
  AddStates(answer, *response.mutable_limits());
}

}  // namespace ratelimiter
