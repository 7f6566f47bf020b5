#include "settings_values.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <sstream>

#include <fmt/format.h>

#include "ratelimiter/base/text.h"

namespace ratelimiter {

std::string Describe(Range range) {
  if (range.most == Range{}.most) return fmt::format("{} and more", range.least);
  return fmt::format("{} to {}", range.least, range.most);
}

std::string Describe(TimeRange range) {
  const std::string least = range.least.count() == 0 ? "0" : FormatDuration(range.least);
  return fmt::format("{} to {}", least, FormatDuration(range.most));
}

bool ReadNumber(const std::string& value, Range range, std::uint64_t& result) {
  const char* const end = value.data() + value.size();
  const auto [rest, error] = std::from_chars(value.data(), end, result);
  return error == std::errc() && rest == end && result >= range.least && result <= range.most;
}

bool ReadTime(const std::string& value, TimeRange range, std::chrono::microseconds& result) {
  const auto time = ParseDuration(value);
  if (!time.has_value() || *time < range.least || *time > range.most) return false;
  result = *time;
  return true;
}

bool ReadAddress(const std::string& value, std::string& result) {
  std::array<unsigned char, sizeof(in6_addr)> parsed{};
  result = value;
  return inet_pton(AF_INET, value.c_str(), parsed.data()) == 1 ||
         inet_pton(AF_INET6, value.c_str(), parsed.data()) == 1;
}

// Names and IPv4 addresses, without ports.
bool ReadHostNames(const std::string& value, std::vector<std::string>& result) {
  std::istringstream names(value);
  for (std::string name; std::getline(names, name, ',');) {
    const bool accepted = !name.empty() && std::ranges::all_of(name, [](unsigned char c) {
      return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_';
    });
    if (!accepted) return false;
    result.push_back(name);
  }
  return !value.ends_with(',');
}

// Braces would be taken for the hash tag of a Redis Cluster.
bool ReadKeyPrefix(const std::string& value, std::string& result) {
  result = value;
  return !value.empty() && value.size() <= kMaxKeyPrefixBytes &&
         std::ranges::all_of(value,
                             [](char c) { return c > ' ' && c < '\x7f' && c != '{' && c != '}'; });
}

bool ReadFraction(const std::string& value, Fraction& result) {
  constexpr std::size_t kMaxDigits = 6;
  if (value == "1") {
    result.millionths = Fraction::kAll;
    return true;
  }
  if (!value.starts_with("0.") || value.size() > 2 + kMaxDigits) return false;
  std::string digits = value.substr(2);
  digits.resize(digits.empty() ? 0 : kMaxDigits, '0');
  std::uint64_t millionths = 0;
  if (!ReadNumber(digits, {1, Fraction::kAll}, millionths)) return false;
  result.millionths = static_cast<std::uint32_t>(millionths);
  return true;
}

bool ReadOptionalFraction(const std::string& value, std::optional<Fraction>& result) {
  if (value == "0") return true;
  result.emplace();
  return ReadFraction(value, *result);
}

bool ReadRedisUrl(const std::string& value, RedisUrl& result) {
  const auto url = ParseRedisUrl(value);
  // Invisible characters cannot be meant literally: %XX stands for any byte.
  if (!url.has_value() || !DescribeInvisible(value).empty()) return false;
  result = *url;
  return true;
}

bool ReadServerName(const std::string& value, std::string& result) {
  result = value;
  return value.size() <= kMaxServerNameBytes && DescribeInvisible(value).empty();
}

// Any bytes, except a byte order mark, which no server knows as a part of its password.
bool ReadSecret(const std::string& value, std::string& result) {
  result = value;
  return !value.starts_with("\xEF\xBB\xBF");
}

}  // namespace ratelimiter
