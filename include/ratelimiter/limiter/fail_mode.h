#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace ratelimiter {

// What becomes of a call whose store failed. From the most lenient to the
// strictest: where a call's limits differ, the strictest holds.
enum class FailMode : std::uint8_t {
  kOpen,    // Allowed.
  kLocal,   // Decided by buckets of this instance alone.
  kClosed,  // Refused.
  kError,   // The store's error.
};

// The names that people write.
inline constexpr std::string_view kFailModeNames = "error, open, closed, local";

constexpr std::string_view NameOf(FailMode mode) {
  switch (mode) {
    case FailMode::kOpen:
      return "open";
    case FailMode::kLocal:
      return "local";
    case FailMode::kClosed:
      return "closed";
    case FailMode::kError:
      break;
  }
  return "error";
}

constexpr std::optional<FailMode> ParseFailMode(std::string_view name) {
  for (const FailMode mode :
       {FailMode::kError, FailMode::kOpen, FailMode::kClosed, FailMode::kLocal}) {
    if (name == NameOf(mode)) return mode;
  }
  return std::nullopt;
}

}  // namespace ratelimiter
