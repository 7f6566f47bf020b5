#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ratelimiter/base/duration.h"
#include "ratelimiter/base/fraction.h"
#include "ratelimiter/config/settings.h"

namespace ratelimiter {

// What a setting's value may hold, which decides what of it may be shown.
enum class Secrecy : std::uint8_t {
  kNone,
  kUrl,     // A URL, which may hold a password.
  kSecret,  // Nothing of it may be shown.
};

// One setting: an environment variable, and a flag of the same name (REDIS_URL, --redis-url).
struct Setting {
  std::string_view name;
  std::string_view default_value;
  std::string accepted;
  std::string_view meaning;
  // Stores a value; false if it is not accepted.
  std::function<bool(const std::string& value, Settings& settings)> read;
  Secrecy secrecy = Secrecy::kNone;
};

// The smallest and the largest accepted value; `accepted` texts are made from them.
struct Range {
  std::uint64_t least = 0;
  std::uint64_t most = std::numeric_limits<std::int64_t>::max();
};
struct TimeRange {
  std::chrono::microseconds least;
  std::chrono::microseconds most;
};

// "0 to 65535", "1 and more"
std::string Describe(Range range);
// "1ms to 1m", "0 to 1h"
std::string Describe(TimeRange range);

// The whole of `value` as a decimal number within `range`.
bool ReadNumber(const std::string& value, Range range, std::uint64_t& result);
bool ReadTime(const std::string& value, TimeRange range, std::chrono::microseconds& result);

// The readers of the other kinds of values: false if `value` is not accepted.
bool ReadAddress(const std::string& value, std::string& result);
bool ReadHostNames(const std::string& value, std::vector<std::string>& result);
bool ReadKeyPrefix(const std::string& value, std::string& result);
bool ReadFraction(const std::string& value, Fraction& result);
bool ReadOptionalFraction(const std::string& value, std::optional<Fraction>& result);
bool ReadRedisUrl(const std::string& value, RedisUrl& result);
bool ReadServerName(const std::string& value, std::string& result);
bool ReadSecret(const std::string& value, std::string& result);

inline constexpr std::size_t kMaxKeyPrefixBytes = 64;
inline constexpr std::size_t kMaxServerNameBytes = 255;  // SNI carries no longer name.

// --- Rows of the table. `member` is a pointer to a member of Settings, or a function that
// returns a reference to one of its values.

// Any kind of value, by its reader: bool read(const std::string&, T&).
template <typename Read, typename Member>
Setting Value(std::string_view name, std::string_view default_value, const std::string& accepted,
              Read read, Member member, std::string_view meaning) {
  return {.name = name,
          .default_value = default_value,
          .accepted = accepted,
          .meaning = meaning,
          .read = [read, member](const std::string& value, Settings& settings) {
            return read(value, std::invoke(member, settings));
          }};
}

template <typename Member>
Setting Int(std::string_view name, std::string_view default_value, Range range, Member member,
            std::string_view meaning) {
  const auto read = [range](const std::string& value, auto& result) {
    std::uint64_t number = 0;
    if (!ReadNumber(value, range, number)) return false;
    result = static_cast<std::remove_cvref_t<decltype(result)>>(number);
    return true;
  };
  return Value(name, default_value, Describe(range), read, member, meaning);
}

// A number, or "off", which leaves an optional without a value.
template <typename Member>
Setting IntOrOff(std::string_view name, std::string_view default_value, Range range, Member member,
                 std::string_view meaning) {
  const auto read = [range](const std::string& value, auto& result) {
    std::uint64_t number = 0;
    if (value == "off") return true;
    if (!ReadNumber(value, range, number)) return false;
    result = static_cast<std::remove_cvref_t<decltype(result)>::value_type>(number);
    return true;
  };
  return Value(name, default_value, Describe(range) + ", or off", read, member, meaning);
}

template <typename Member>
Setting Time(std::string_view name, std::string_view default_value, TimeRange range, Member member,
             std::string_view meaning) {
  const auto read = [range](const std::string& value, auto& result) {
    using Duration = std::remove_cvref_t<decltype(result)>;
    std::chrono::microseconds time{0};
    if (!ReadTime(value, range, time)) return false;
    result = std::chrono::duration_cast<Duration>(time);
    return result == time;  // Not if the setting's unit would cut it.
  };
  return Value(name, default_value, Describe(range), read, member, meaning);
}

// A duration, or 0, below the range, which turns something off.
template <typename Member>
Setting TimeOrZero(std::string_view name, std::string_view default_value, TimeRange range,
                   Member member, std::string_view meaning) {
  Setting setting = Time(name, default_value, range, member, meaning);
  setting.accepted += ", or 0";
  setting.read = [read = std::move(setting.read), member](const std::string& value,
                                                          Settings& settings) {
    std::chrono::microseconds time{0};
    if (!ReadTime(value, {.least = time, .most = time}, time)) return read(value, settings);
    std::invoke(member, settings) = std::remove_cvref_t<std::invoke_result_t<Member, Settings&>>(0);
    return true;
  };
  return setting;
}

// One of a few names.
template <typename T, std::size_t N, typename Member>
Setting Choice(std::string_view name, std::string_view default_value,
               const std::array<std::pair<std::string_view, T>, N>& choices, Member member,
               std::string_view meaning) {
  std::string accepted;
  for (const auto& [text, value] : choices) {
    accepted.append(accepted.empty() ? "" : ", ").append(text);
  }
  const auto read = [choices](const std::string& value, T& result) {
    for (const auto& [text, choice] : choices) {
      if (text != value) continue;
      result = choice;
      return true;
    }
    return false;
  };
  return Value(name, default_value, std::move(accepted), read, member, meaning);
}

// A path, which may be empty; `unset` is what that means.
template <typename Member>
Setting File(std::string_view name, Member member, std::string_view unset,
             std::string_view meaning) {
  const auto read = [](const std::string& value, std::string& result) {
    result = value;
    return true;
  };
  return Value(name, "", std::string("a file's path; empty: ").append(unset), read, member,
               meaning);
}

}  // namespace ratelimiter
