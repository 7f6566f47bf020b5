#include "ratelimiter/limiter/bucket_spec.h"

#include <algorithm>
#include <string>

#include <fmt/format.h>

#include "ratelimiter/base/duration.h"
#include "ratelimiter/base/mix.h"
#include "ratelimiter/base/uint128.h"

namespace ratelimiter {
namespace {

std::uint64_t Least1(uint128 number) {
  return static_cast<std::uint64_t>(std::max<uint128>(number, 1));
}

// a × b ≥ bound, without forming the product.
bool ProductReaches(std::uint64_t bound, std::uint64_t a, std::uint64_t b) {
  return a != 0 && b >= bound / a + (bound % a != 0 ? 1 : 0);
}

// Whether the time to full, capacity × interval / refill_tokens rounded down to the microsecond,
// is kExactBound or more. The same split as in the decision keeps it in 64 bits.
bool TimeToFullReachesBound(const BucketSpec& spec) {
  const auto interval = static_cast<std::uint64_t>(spec.refill_interval.count());
  const std::uint64_t whole = interval / spec.refill_tokens;
  const std::uint64_t part = interval % spec.refill_tokens;
  if (ProductReaches(kExactBound, spec.capacity, whole)) return true;
  // part < refill_tokens, and capacity × refill_tokens < 2^52: this fits.
  return spec.capacity * whole + spec.capacity * part / spec.refill_tokens >= kExactBound;
}

}  // namespace

std::uint32_t Fingerprint(const BucketSpec& spec) {
  const auto interval = static_cast<std::uint64_t>(spec.refill_interval.count());
  // 31 bits: Redis keeps numbers that fit a signed 32-bit integer small.
  return static_cast<std::uint32_t>(Mix(Mix(Mix(spec.capacity) + spec.refill_tokens) + interval) >>
                                    33U);
}

absl::Status Validate(const BucketSpec& spec) {
  const auto reject = [](const std::string& what) { return absl::InvalidArgumentError(what); };
  if (spec.capacity == 0) return reject("capacity is 0; accepted: 1 and more");
  if (spec.refill_tokens == 0) return reject("refill tokens is 0; accepted: 1 and more");
  if (spec.refill_interval < kMinRefillInterval || spec.refill_interval > kMaxRefillInterval) {
    return reject(fmt::format(
        "refill interval is {}; accepted: {} to {}", FormatDuration(spec.refill_interval),
        FormatDuration(kMinRefillInterval), FormatDuration(kMaxRefillInterval)));
  }
  if (ProductReaches(kExactBound, spec.capacity, spec.refill_tokens)) {
    return reject(fmt::format(
        "capacity {} times refill tokens {} is 2^52 or more, beyond exact arithmetic; accepted: "
        "less. Divide refill tokens and refill interval by the same number",
        spec.capacity, spec.refill_tokens));
  }
  if (TimeToFullReachesBound(spec)) {
    return reject(
        fmt::format("capacity {} at {} per {} takes 2^52 microseconds (142 years) or more to fill, "
                    "beyond exact arithmetic; accepted: less",
                    spec.capacity, spec.refill_tokens, FormatDuration(spec.refill_interval)));
  }
  return absl::OkStatus();
}

BucketSpec Scale(const BucketSpec& spec, Fraction fraction) {
  constexpr auto kLongest = static_cast<std::uint64_t>(kMaxRefillInterval.count());
  const auto interval = static_cast<std::uint64_t>(spec.refill_interval.count());
  // Lower the rate by a longer interval, or by fewer tokens in the longest interval.
  uint128 longer =
      (uint128{interval} * Fraction::kAll + fraction.millionths - 1) / fraction.millionths;
  std::uint64_t tokens = spec.refill_tokens;
  if (longer > kLongest) {
    tokens = Least1(uint128{tokens} * fraction.millionths * kLongest /
                    (uint128{interval} * Fraction::kAll));
    longer = kLongest;
  }
  // Rounding must not exceed the longest time to full.
  const uint128 most = (uint128{kExactBound} * tokens - 1) / longer;
  const uint128 capacity = uint128{spec.capacity} * fraction.millionths / Fraction::kAll;
  return {.capacity = Least1(std::min(capacity, most)),
          .refill_tokens = tokens,
          .refill_interval = std::chrono::microseconds(static_cast<std::int64_t>(longer))};
}

}  // namespace ratelimiter
