#pragma once

#include <string>

namespace ratelimiter {

// A Lua script and the name that Redis has for it.
struct Script {
  std::string source;
  // The SHA-1 of the source, in lower-case hexadecimal.
  std::string sha1;
};

// token_bucket.lua, whose header states KEYS, ARGV and the reply.
Script TokenBucketScript();

// server_check.lua, likewise.
Script ServerCheckScript();

}  // namespace ratelimiter
