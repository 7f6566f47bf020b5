#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ratelimiter/base/host_port.h"

namespace ratelimiter {

// The longest path of a Unix socket, as the system bounds it.
inline constexpr std::size_t kMaxSocketPathBytes = 107;

// The location of Redis, in one of four forms, and the user to authenticate as.
struct RedisUrl {
  std::string host{};
  std::uint16_t port = 6379;
  bool tls = false;
  // Path of a Unix socket, instead of host and port.
  std::string socket{};
  // Sentinels that know the master of this name, instead of a host.
  std::vector<HostPort> sentinels{};
  std::string master{};
  // Nodes of a Redis Cluster, which know the others, instead of a host.
  std::vector<HostPort> cluster{};
  // Empty: the default user.
  std::string user{};
  // Empty: none was given.
  std::string password{};
  std::uint32_t database = 0;

  friend bool operator==(const RedisUrl&, const RedisUrl&) = default;
};

// Parses
//   redis://[user[:password]@]host[:port][/database]
//   rediss://…, the same over TLS
//   unix://[user[:password]@]/path[?db=database]
//   redis-sentinel://[user[:password]@]host[:port],…/master[/database]
//   redis-cluster://[user[:password]@]host[:port],…
// User, password and path may hold any byte as %XX; an IPv6 address stands in brackets.
// ":password@" is the default user's. "user@" is a user without a password (ACL nopass), or
// whose password comes from elsewhere. nullopt: anything else.
std::optional<RedisUrl> ParseRedisUrl(std::string_view text);

// Why a form of URL that other clients know is not supported; empty if it is no such form.
std::string_view WhyNotSupported(std::string_view text);

// The URL with "…" in place of its password. `url` must be valid.
std::string WithoutPassword(std::string_view url);

// As much of a rejected URL as cannot be a password, printable.
std::string WithoutSecrets(std::string_view rejected);

}  // namespace ratelimiter
