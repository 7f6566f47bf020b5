#pragma once

#include <string>
#include <string_view>

#include <absl/status/status.h>

#include "ratelimiter/redis/connection.h"
#include "ratelimiter/redis/redis_reply.h"

namespace ratelimiter {

// What a new connection says first, and what the server's replies to it mean: that it is a
// server that the daemon can use, with the rights and commands that the daemon needs.

// The value of `field` in a reply that lists fields and values in turn; empty: there is none.
std::string_view FieldOf(const RedisReply& reply, std::string_view field);

// Whether the server that replied `hello` is recent enough, and whether it is a master.
absl::Status CheckVersion(const RedisReply& hello);
absl::Status CheckMaster(const RedisReply& hello);

// Whether an ACL or rename-command keeps the user from running the command.
bool IsForbidden(const RedisReply& reply);

// Rights and commands that the daemon needs of Redis and does not have.
class Missing {
 public:
  // `reply`: the error that refused `command`.
  void AddForbidden(std::string_view command, const RedisReply& reply);
  // `name`: as server_check.lua replies it.
  void Add(std::string_view name);

  // OK if nothing is missing.
  absl::Status Error(const RedisServer& server) const;

 private:
  std::string rights_;
  std::string commands_;
};

// Commands that introduce the daemon: HELLO, SELECT and the check of the server.
std::string Introduction(const RedisServer& server, std::string_view password);

// The check alone. `run` is EVALSHA or EVAL, `script` the script's SHA-1 or source.
std::string FormatServerCheck(const RedisServer& server, std::string_view run,
                              std::string_view script, std::string_view password);

// What server_check.lua found missing, which follows the first string of its reply.
absl::Status CheckMissing(const RedisReply& found, const RedisServer& server);

// The error of a connection that ended with `error` instead of a reply to HELLO.
absl::Status NotIntroduced(const absl::Status& error, const RedisServer& server);

// The error of a server that replied the error `reply` to `command`.
absl::Status IntroductionRefused(const RedisReply& reply, std::string_view command,
                                 const RedisServer& server);

}  // namespace ratelimiter
