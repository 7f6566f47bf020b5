#include "ratelimiter/config/redis_url.h"

#include <algorithm>
#include <charconv>

namespace ratelimiter {
namespace {

// The whole of `text` as a decimal number that fits T.
template <typename T>
std::optional<T> ParseNumber(std::string_view text) {
  T number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end) return std::nullopt;
  return number;
}

std::optional<std::string> PercentDecode(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    if (text.front() != '%') {
      result.push_back(text.front());
      text.remove_prefix(1);
      continue;
    }
    if (text.size() < 3) return std::nullopt;
    unsigned int byte = 0;
    const auto [rest, error] = std::from_chars(text.data() + 1, text.data() + 3, byte, 16);
    if (error != std::errc() || rest != text.data() + 3) return std::nullopt;
    result.push_back(static_cast<char>(byte));
    text.remove_prefix(3);
  }
  return result;
}

bool ParseUserInfo(std::string_view text, RedisUrl& url) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return false;
  const auto user = PercentDecode(text.substr(0, colon));
  const auto password = PercentDecode(text.substr(colon + 1));
  if (!user.has_value() || !password.has_value() || password->empty()) return false;
  url.user = *user;
  url.password = *password;
  return true;
}

bool ParseHostAndPort(std::string_view text, RedisUrl& url) {
  std::string_view rest;
  if (text.starts_with('[')) {
    const std::size_t bracket = text.find(']');
    if (bracket == std::string_view::npos) return false;
    url.host = text.substr(1, bracket - 1);
    rest = text.substr(bracket + 1);
  } else {
    const std::size_t colon = std::min(text.find(':'), text.size());
    url.host = text.substr(0, colon);
    rest = text.substr(colon);
  }
  if (url.host.empty() || url.host.find_first_of(" \t\r\n/?#@") != std::string::npos) return false;
  if (rest.empty()) return true;
  if (!rest.starts_with(':')) return false;
  const auto port = ParseNumber<std::uint16_t>(rest.substr(1));
  if (!port.has_value() || *port == 0) return false;
  url.port = *port;
  return true;
}

}  // namespace

std::optional<RedisUrl> ParseRedisUrl(std::string_view text) {
  constexpr std::string_view kScheme = "redis://";
  if (!text.starts_with(kScheme)) return std::nullopt;
  text.remove_prefix(kScheme.size());

  RedisUrl url;
  // A password may hold '@' unescaped: the last one ends it.
  if (const std::size_t at = text.rfind('@'); at != std::string_view::npos) {
    if (!ParseUserInfo(text.substr(0, at), url)) return std::nullopt;
    text.remove_prefix(at + 1);
  }
  if (const std::size_t slash = text.find('/'); slash != std::string_view::npos) {
    const std::string_view database = text.substr(slash + 1);
    if (!database.empty()) {
      const auto number = ParseNumber<std::uint32_t>(database);
      if (!number.has_value()) return std::nullopt;
      url.database = *number;
    }
    text = text.substr(0, slash);
  }
  if (!ParseHostAndPort(text, url)) return std::nullopt;
  return url;
}

}  // namespace ratelimiter
