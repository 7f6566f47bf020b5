#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <absl/container/inlined_vector.h>
#include <absl/status/status.h>
#include <fmt/format.h>

#include "ratelimiter/limiter/token_bucket_store.h"
#include "ratelimiter/redis/reply.h"

namespace ratelimiter {

// One transaction as a call of token_bucket.lua: what it sends, and where its
// answer goes.
struct ScriptCall {
  Transaction* transaction = nullptr;
  // A hash of each charge's bucket, in their order. Different buckets share one
  // seldom.
  absl::InlinedVector<std::size_t, 4> buckets{};
  // Its keys, the action and the numbers of each key, in Redis's protocol: calls
  // that agree in this differ in their costs alone.
  std::string_view arguments{};

  // The next call that one run of the script answers together with this one.
  ScriptCall* next = nullptr;
};

std::size_t HashOfBucket(const Charge& charge);

// Appends what a call's `arguments` are for a transaction to `out`. What keys
// begin with is `key_prefix`.
void AppendArguments(const Transaction& transaction, std::string_view key_prefix,
                     fmt::memory_buffer& out);

// Appends the EVALSHA that answers `first` and the `calls` - 1 behind it.
void AppendEvalsha(const ScriptCall& first, std::size_t calls, std::string_view sha1,
                   fmt::memory_buffer& out);

// Gives `first` and those behind it what the script replied to their EVALSHA.
void Answer(ScriptCall& first, std::size_t calls, const Reply& reply);

// Whether an error that Redis replied is about what it was asked (a key of
// another type, a bucket that holds nonsense), not about its own state (a
// demoted master, loading, out of memory): it would answer others.
bool IsOfTheCommand(const Reply& error);

}  // namespace ratelimiter
