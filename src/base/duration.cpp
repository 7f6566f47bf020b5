#include "ratelimiter/base/duration.h"

#include <array>
#include <charconv>
#include <cstdint>
#include <limits>

namespace ratelimiter {
namespace {

struct Unit {
  std::string_view name;
  std::int64_t microseconds;
};

// Largest first: FormatDuration takes the first that divides.
constexpr std::array<Unit, 6> kUnits = {{{"d", 86'400'000'000},
                                         {"h", 3'600'000'000},
                                         {"m", 60'000'000},
                                         {"s", 1'000'000},
                                         {"ms", 1'000},
                                         {"us", 1}}};

}  // namespace

std::optional<std::chrono::microseconds> ParseDuration(std::string_view text) {
  std::int64_t number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || text.starts_with('-')) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(rest - text.data()));
  if (text.empty() && number == 0) return std::chrono::microseconds(0);
  for (const Unit& unit : kUnits) {
    if (text != unit.name) continue;
    if (number > std::numeric_limits<std::int64_t>::max() / unit.microseconds) return std::nullopt;
    return std::chrono::microseconds(number * unit.microseconds);
  }
  return std::nullopt;
}

std::string FormatDuration(std::chrono::microseconds duration) {
  const std::int64_t count = duration.count();
  if (count == 0) return "0s";
  for (const Unit& unit : kUnits) {
    if (count % unit.microseconds == 0) {
      return std::to_string(count / unit.microseconds).append(unit.name);
    }
  }
  return {};  // Not reached: one microsecond divides all.
}

}  // namespace ratelimiter
