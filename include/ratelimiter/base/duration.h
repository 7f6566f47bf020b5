#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace ratelimiter {

// Parses a whole number with a unit: "250us", "100ms", "2s", "1m", "12h", "30d". Zero needs no
// unit. nullopt: anything else, or more microseconds than 64 bits hold.
std::optional<std::chrono::microseconds> ParseDuration(std::string_view text);

// Formats with the largest unit that divides: 2s, 1500ms, 90s, 1d.
std::string FormatDuration(std::chrono::microseconds duration);

}  // namespace ratelimiter
