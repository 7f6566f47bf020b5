#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace ratelimiter {

// Reads a whole number with its unit, as people write settings: "250us",
// "100ms", "2s", "1m", "12h", "30d". Zero may go without a unit.
// nullopt: anything else, and what does not fit 64 bits of microseconds.
std::optional<std::chrono::microseconds> ParseDuration(std::string_view text);

// The shortest such text: 2s, 1500ms, 90s, 1d.
std::string FormatDuration(std::chrono::microseconds duration);

}  // namespace ratelimiter
