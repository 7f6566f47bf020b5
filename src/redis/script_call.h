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
  // A hash of each charge's bucket, in their order, and one of `limits`. Different
  // ones share one seldom.
  absl::InlinedVector<std::size_t, 4> buckets{};
  std::size_t limits_hash = 0;
  // Its KEYS, and the action and the numbers of its limits, in Redis's protocol.
  std::string_view keys{};
  std::string_view limits{};

  // The next call that the same run of the script answers.
  ScriptCall* next = nullptr;
  bool answered = false;
};

std::size_t HashOfBucket(const Charge& charge);

// Append what a call's `keys`, which begin with `key_prefix`, and its `limits` are
// for a transaction.
void AppendKeys(const Transaction& transaction, std::string_view key_prefix,
                fmt::memory_buffer& out);
void AppendLimits(const Transaction& transaction, fmt::memory_buffer& out);

// Whether one run of the script can answer both: they ask the same of the same
// limits, maybe of other buckets.
bool GoTogether(const ScriptCall& one, const ScriptCall& other);

// Appends the EVALSHA that answers `first` and those behind it, `calls` in all.
void AppendEvalsha(const ScriptCall& first, std::size_t calls, std::string_view sha1,
                   fmt::memory_buffer& out);

// Gives `first` and those behind it what the script replied to their EVALSHA.
void Answer(ScriptCall& first, std::size_t calls, const Reply& reply);

// Whether an error that Redis replied is about what it was asked (a key of
// another type, a bucket that holds nonsense), not about its own state (a
// demoted master, loading, out of memory): it would answer others.
bool IsOfTheCommand(const Reply& error);

}  // namespace ratelimiter
