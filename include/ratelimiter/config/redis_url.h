#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ratelimiter/base/host_port.h"

namespace ratelimiter {

// Where Redis is, in one of four ways, and who we are there.
struct RedisUrl {
  std::string host{};
  std::uint16_t port = 6379;
  bool tls = false;
  // Of a Unix socket, instead of host and port.
  std::string socket{};
  // Instead of these: who knows where the master of this name is.
  std::vector<HostPort> sentinels{};
  std::string master{};
  // Instead of these: nodes of a Redis Cluster, which know its others.
  std::vector<HostPort> cluster{};
  // Empty: none was given.
  std::string user{};
  std::string password{};
  std::uint32_t database = 0;

  friend bool operator==(const RedisUrl&, const RedisUrl&) = default;
};

// Reads
//   redis://[user:password@]host[:port][/database]
//   rediss://…, the same over TLS
//   unix://[user:password@]/path[?db=database]
//   redis-sentinel://[user:password@]host[:port],…/master[/database]
//   redis-cluster://[user:password@]host[:port],…
// User, password and path may hold any byte as %XX; an IPv6 address stands in
// brackets; ":password@" is the default user's, "user@" one's whose password comes
// from elsewhere. nullopt: anything else.
std::optional<RedisUrl> ParseRedisUrl(std::string_view text);

// What is to be said of a form of address that others know and ParseRedisUrl does not;
// empty: nothing.
std::string_view WhyNotSupported(std::string_view text);

}  // namespace ratelimiter
