#include "message_translation.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

std::string TooLong(std::string_view what, std::size_t bytes, std::size_t most) {
  return fmt::format("{} is {} bytes long; accepted: at most {} bytes", what, bytes, most);
}

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
  return absl::InvalidArgumentError(TooLong("path", path.size(), kMaxPathBytes));
}

absl::Status TranslateAttributes(const auto& message, TranslatedRequest& translated) {
  if (message.size() > kMaxAttributes) {
    return absl::InvalidArgumentError(fmt::format("there are {} attributes; accepted: at most {}",
                                                  message.size(), kMaxAttributes));
  }
  for (const auto& [key, value] : message) {
    if (key.empty() || key.size() > kMaxAttributeKeyBytes) {
      return absl::InvalidArgumentError(
          fmt::format("an attribute's key is {} bytes long; accepted: 1 to {} bytes", key.size(),
                      kMaxAttributeKeyBytes));
    }
    if (value.size() > kMaxAttributeValueBytes) {
      return absl::InvalidArgumentError(
          TooLong(fmt::format("attribute \"{}\"", Printable(key, kMaxAttributeKeyBytes)),
                  value.size(), kMaxAttributeValueBytes));
    }
    translated.attributes.push_back({key, value});
  }
  translated.request.attributes = translated.attributes;
  return absl::OkStatus();
}

absl::Status TranslateCommon(const auto& message, TranslatedRequest& translated) {
  if (absl::Status valid = CheckUserId(message.user_id()); !valid.ok()) return valid;
  translated.request.user_id = message.user_id();
  if (absl::Status valid = CheckPath(message.path()); !valid.ok()) return valid;
  translated.request.path = message.path();
  return TranslateAttributes(message.attributes(), translated);
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

// Whether a refusal ends by itself.
bool Passes(const LimitState& state) {
  return state.decision.retry_after > std::chrono::microseconds(0);
}

void SetNumbers(const LimitState& state, auto& message) {
  message.set_remaining(WireCount(state.decision.remaining));
  message.set_limit(WireCount(state.quota.capacity));
  SetDuration(state.decision.reset_after, *message.mutable_reset_after());
  if (!state.decision.allowed && Passes(state)) {
    SetDuration(state.decision.retry_after, *message.mutable_retry_after());
  }
}

void AddStates(const Answer& answer, auto& states) {
  for (const LimitState& state : answer.states) {
    limiter::LimitState& message = *states.Add();
    message.set_name(state.limit->name);
    message.set_shadow(state.limit->shadow);
    message.set_allowed(state.decision.allowed);
    SetNumbers(state, message);
  }
}

std::string RefusalReason(const Request& request, const LimitState& state) {
  if (state.quota.capacity == 0) {
    return fmt::format("Limit \"{}\" refuses always: its capacity is 0", state.limit->name);
  }
  return fmt::format("Limit \"{}\" exceeded: cost {}, {} of {} tokens left", state.limit->name,
                     request.cost * state.limit->cost, state.decision.remaining,
                     state.quota.capacity);
}

}  // namespace

absl::Status Translate(const limiter::AllowRequestRequest& message, TranslatedRequest& translated) {
  translated.request.cost = message.has_cost() ? message.cost() : 1;
  translated.request.dry_run = message.dry_run();
  translated.request.details = message.details();
  return TranslateCommon(message, translated);
}

absl::Status Translate(const limiter::GetUsageRequest& message, TranslatedRequest& translated) {
  return TranslateCommon(message, translated);
}

void Translate(const Request& request, const Answer& answer,
               limiter::AllowRequestResponse& response) {
  response.set_allowed(answer.allowed);
  const LimitState* const deciding = answer.deciding_state();
  if (deciding != nullptr) {
    SetNumbers(*deciding, response);
    response.set_limit_name(deciding->limit->name);
  }
  response.set_reason(answer.allowed ? "Request allowed" : RefusalReason(request, *deciding));
  if (request.details) AddStates(answer, *response.mutable_limits());
}

void Translate(const Answer& answer, limiter::GetUsageResponse& response) {
  if (const LimitState* const deciding = answer.deciding_state(); deciding != nullptr) {
    const std::uint64_t capacity = deciding->quota.capacity;
    response.set_requests_used(WireCount(capacity - deciding->decision.remaining));
    response.set_requests_allowed(WireCount(capacity));
    response.set_limit_name(deciding->limit->name);
  }
  AddStates(answer, *response.mutable_limits());
}

}  // namespace ratelimiter
