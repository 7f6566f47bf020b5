#include "rate_limit_headers.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iterator>
#include <string_view>

#include <fmt/format.h>

#include "ratelimiter/base/uint128.h"

namespace ratelimiter {
namespace {

// Per field. gRPC clients accept 8 KiB of metadata by default, and a call must not fail because
// of its headers.
constexpr std::size_t kMaxBytes = 2'048;

// An integer in a structured field has at most 15 digits.
std::uint64_t Clamp(uint128 number) {
  constexpr uint128 kMax = 999'999'999'999'999;
  return static_cast<std::uint64_t>(std::min(number, kMax));
}

// `count` microseconds in seconds, rounded up.
std::uint64_t Seconds(uint128 count) {
  constexpr std::uint64_t kMicroseconds = 1'000'000;
  return Clamp((count + kMicroseconds - 1) / kMicroseconds);
}

// How long it takes until `tokens` have come, in microseconds.
uint128 TimeToEarn(const BucketSpec& spec, std::uint64_t tokens) {
  return uint128{tokens} * static_cast<std::uint64_t>(spec.refill_interval.count()) /
         spec.refill_tokens;
}

// The seconds within which no more than the remaining tokens can be used: until the next token
// comes or, for a full bucket, would come after the first one is taken.
std::uint64_t EffectiveWindow(const LimitState& state) {
  const std::uint64_t missing = state.spec.capacity - state.decision.remaining;
  if (missing == 0) return Seconds(TimeToEarn(state.spec, 1));
  // The tokens behind the next one take this part of the time to a full bucket.
  const uint128 others = TimeToEarn(state.spec, missing - 1);
  const auto reset_after = static_cast<std::uint64_t>(state.decision.reset_after.count());
  uint128 next = reset_after > others ? reset_after - others : 1;
  // Both were rounded. A retry is never before the end of the window.
  if (!state.decision.allowed && state.decision.retry_after > std::chrono::microseconds(0)) {
    next = std::min<uint128>(next, static_cast<std::uint64_t>(state.decision.retry_after.count()));
  }
  return Seconds(next);
}

// Names of limits need no escapes within quotes.
void Append(std::string& field, std::string_view name, std::string_view key, std::uint64_t number) {
  fmt::format_to(std::back_inserter(field), "{}\"{}\";{}={}", field.empty() ? "" : ", ", name, key,
                 Clamp(number));
}

}  // namespace

RateLimitHeaders RateLimitHeadersOf(const Answer& answer) {
  RateLimitHeaders headers;
  for (const LimitState& state : answer.states) {
    if (state.limit->shadow) continue;
    if (headers.policy.size() > kMaxBytes || headers.state.size() > kMaxBytes) break;
    Append(headers.policy, state.limit->name, "q", state.spec.capacity);
    Append(headers.state, state.limit->name, "r", state.decision.remaining);
    if (state.spec.capacity == 0) continue;
    fmt::format_to(std::back_inserter(headers.policy), ";w={}",
                   Seconds(TimeToEarn(state.spec, state.spec.capacity)));
    fmt::format_to(std::back_inserter(headers.state), ";t={}", EffectiveWindow(state));
  }
  return headers;
}

}  // namespace ratelimiter
