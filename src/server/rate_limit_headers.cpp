#include "rate_limit_headers.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iterator>
#include <string_view>

#include <fmt/format.h>

namespace ratelimiter {
namespace {

// Of each field: what gRPC accepts of metadata in all is 8 KiB by default, and a
// call must not fail for telling too much.
constexpr std::size_t kMaxBytes = 2'048;

// An integer of a structured field has 15 digits at most.
std::uint64_t Shown(std::uint64_t number) {
  constexpr std::uint64_t kMost = 999'999'999'999'999;
  return std::min(number, kMost);
}

std::uint64_t Seconds(std::chrono::microseconds time) {
  return Shown(static_cast<std::uint64_t>(std::chrono::ceil<std::chrono::seconds>(time).count()));
}

// The time in which an empty bucket fills. Exact up to what a double holds: it is
// rounded up to seconds anyway.
std::chrono::microseconds TimeToFill(const BucketSpec& spec) {
  const auto tokens = static_cast<double>(spec.capacity);
  const auto interval = static_cast<double>(spec.refill_interval.count());
  const auto refill = static_cast<double>(spec.refill_tokens);
  return std::chrono::microseconds(static_cast<std::int64_t>(tokens * interval / refill));
}

// Names of limits need no escape within the quotes.
void Append(std::string& field, std::string_view name, std::string_view key, std::uint64_t number) {
  fmt::format_to(std::back_inserter(field), "{}\"{}\";{}={}", field.empty() ? "" : ", ", name, key,
                 Shown(number));
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
    fmt::format_to(std::back_inserter(headers.policy), ";w={}", Seconds(TimeToFill(state.spec)));
    fmt::format_to(std::back_inserter(headers.state), ";t={}", Seconds(state.decision.reset_after));
  }
  return headers;
}

}  // namespace ratelimiter
