#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace ratelimiter {

// The result of a call when the store fails, from the most lenient to the strictest. If the
// limits of a call differ, the strictest applies.
enum class FailMode : std::uint8_t {
  kOpen,    // Allowed.
  kLocal,   // Decided by this instance's own buckets.
  kClosed,  // Denied.
  kError,   // The store's error.
};

// The names used by settings, limits files and metrics, by FailMode.
inline constexpr auto kFailModes =
    std::to_array<std::string_view>({"open", "local", "closed", "error"});

// The same for error messages, the default first.
inline constexpr std::string_view kFailModeNames = "error, open, closed, local";

constexpr std::string_view NameOf(FailMode mode) {
  return kFailModes[static_cast<std::size_t>(mode)];
}

constexpr std::optional<FailMode> ParseFailMode(std::string_view name) {
  const auto* const found = std::ranges::find(kFailModes, name);
  if (found == kFailModes.end()) return std::nullopt;
  return static_cast<FailMode>(found - kFailModes.begin());
}

}  // namespace ratelimiter
