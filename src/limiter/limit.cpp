#include "ratelimiter/limiter/limit.h"

#include <fmt/format.h>

#include "ratelimiter/base/duration.h"

namespace ratelimiter {
namespace {

// a × b ≥ bound, without forming the product.
bool ProductReaches(std::uint64_t bound, std::uint64_t a, std::uint64_t b) {
  return a != 0 && b >= bound / a + (bound % a != 0 ? 1 : 0);
}

// capacity × interval / refill_tokens ≥ kExactBound, rounded down: the time to
// full in microseconds. The same split as the decision's keeps it in 64 bits.
bool TimeToFullReachesBound(const Limit& limit) {
  const auto interval = static_cast<std::uint64_t>(limit.refill_interval.count());
  const std::uint64_t whole = interval / limit.refill_tokens;
  const std::uint64_t part = interval % limit.refill_tokens;
  if (ProductReaches(kExactBound, limit.capacity, whole)) return true;
  // part < refill_tokens, and capacity × refill_tokens < 2^52: this fits.
  return limit.capacity * whole + limit.capacity * part / limit.refill_tokens >= kExactBound;
}

}  // namespace

absl::Status Validate(const Limit& limit) {
  const auto reject = [&](const std::string& what) {
    return absl::InvalidArgumentError(fmt::format("limit \"{}\": {}", limit.name, what));
  };
  if (limit.capacity == 0) return reject("capacity is 0; accepted: 1 and more");
  if (limit.refill_tokens == 0) return reject("refill tokens is 0; accepted: 1 and more");
  if (limit.refill_interval < kMinRefillInterval || limit.refill_interval > kMaxRefillInterval) {
    return reject(fmt::format("refill interval is {}; accepted: 1ms to 30d",
                              FormatDuration(limit.refill_interval)));
  }
  if (ProductReaches(kExactBound, limit.capacity, limit.refill_tokens)) {
    return reject(fmt::format(
        "capacity {} times refill tokens {} is 2^52 or more, beyond exact arithmetic; accepted: "
        "less. Divide refill tokens and refill interval by the same number",
        limit.capacity, limit.refill_tokens));
  }
  if (TimeToFullReachesBound(limit)) {
    return reject(
        fmt::format("capacity {} at {} per {} takes 2^52 microseconds (142 years) or more to fill, "
                    "beyond exact arithmetic; accepted: less",
                    limit.capacity, limit.refill_tokens, FormatDuration(limit.refill_interval)));
  }
  return absl::OkStatus();
}

}  // namespace ratelimiter
