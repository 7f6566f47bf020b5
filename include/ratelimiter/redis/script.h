#pragma once

#include <cstdint>
#include <string>

namespace ratelimiter {

// A Lua script, and the name under which Redis caches it.
struct Script {
  std::string source;
  // The SHA-1 of the source, in lower-case hexadecimal.
  std::string sha1;
};

// How a script is sent to Redis: EVALSHA, or EVAL where SCRIPT LOAD is not allowed.
enum class RunScript : std::uint8_t { kBySha1, kBySource };

// token_bucket.lua, whose header states KEYS, ARGV and the reply.
Script TokenBucketScript();

// server_check.lua, likewise.
Script ServerCheckScript();

}  // namespace ratelimiter
