#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <absl/container/inlined_vector.h>

#include "command_writer.h"
#include "ratelimiter/limiter/token_bucket_store.h"
#include "ratelimiter/redis/redis_reply.h"
#include "ratelimiter/redis/script.h"

namespace ratelimiter {

// One transaction as a call of token_bucket.lua: what it sends, and where its
// answer goes.
struct ScriptCall {
  Transaction* transaction = nullptr;
  // A hash of each charge's bucket, in their order, and one of the limits. Different
  // ones share one seldom.
  absl::InlinedVector<std::size_t, 4> buckets{};
  std::size_t limits_hash = 0;
  // Its KEYS, and the action and the numbers of its limits, in Redis's protocol.
  std::string_view keys{};
  std::string_view limits{};

  // Of a Redis Cluster: the slot of its keys. Elsewhere 0.
  std::uint16_t slot = 0;
  // Whether it is sent to a node that is only about to be given the slot.
  bool asking = false;
  // Whether, instead of deciding, it has its buckets' keys be there for a while.
  bool touch_keys = false;
  // The error of a Cluster's node that did not run it, for another is to. Empty: none.
  std::string redirection{};

  // The next call that the same run of the script answers.
  ScriptCall* next = nullptr;
  bool answered = false;

  // The transaction's, with the hashes of its buckets; ScriptCallBuilder gives it the rest.
  static ScriptCall Of(Transaction& transaction);
};

// The calls of one caller, and the text that they point into.
struct ScriptCallBuilder {
  absl::InlinedVector<ScriptCall, 1> calls{};
  CommandText text{};

  // Writes what the calls send. Once, when all are there; they must stay where they
  // are then. What keys begin with is `key_prefix`.
  void Write(std::string_view key_prefix);
};

// Whether one run of the script can answer both: they ask the same of the same
// limits, maybe of other buckets of the same slot, and neither in a special way.
bool CanCoalesce(const ScriptCall& one, const ScriptCall& other);

// Appends the command that runs the script for `first` and its successors, `calls` in all.
void AppendCommand(const ScriptCall& first, std::size_t calls, const Script& script, RunScript how,
                   CommandText& out);

// Gives `first` and those behind it what the script replied to their EVALSHA.
void ParseReply(ScriptCall& first, std::size_t calls, const RedisReply& reply);

}  // namespace ratelimiter
