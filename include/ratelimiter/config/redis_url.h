#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ratelimiter {

// redis://[user:password@]host[:port][/database]
struct RedisUrl {
  std::string host;
  std::uint16_t port = 6379;
  // Empty: none was given.
  std::string user{};
  std::string password{};
  std::uint32_t database = 0;

  friend bool operator==(const RedisUrl&, const RedisUrl&) = default;
};

inline constexpr std::string_view kRedisUrlForm = "redis://[user:password@]host[:port][/database]";

// Reads kRedisUrlForm. User and password may hold any byte as %XX; an IPv6
// address stands in brackets; "redis://:password@host" is the default user's.
// nullopt: anything else.
std::optional<RedisUrl> ParseRedisUrl(std::string_view text);

}  // namespace ratelimiter
