#pragma once

#include <chrono>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <absl/status/status.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/limiter/token_bucket_store.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/redis/connection.h"
#include "ratelimiter/redis/connection_pool.h"
#include "ratelimiter/redis/script.h"

namespace ratelimiter {

struct RedisOptions {
  RedisServer server;
  // How long a call waits for Redis at most: until its command is sent (or its
  // deadline, if that is earlier), and then again for the reply. Above zero.
  std::chrono::milliseconds timeout{100};
  // Connections at most; 1 and more.
  std::size_t pool_size = 16;
  // What every key begins with. Must not contain '{' or '}'.
  std::string key_prefix = "rl";
};

// Token buckets in Redis, shared by every instance that uses the same server,
// database and key prefix. One round trip a decision, by Redis's own clock.
//
// Thread-safe.
class RedisTokenBucket final : public TokenBucketStore {
 public:
  // Connects when first used. `script` is for tests that set the time. The
  // metrics must outlive this.
  RedisTokenBucket(RedisOptions options, Metrics& metrics, Script script = TokenBucketScript());

  // Sends what it can of the transactions in one write, and so waits for few
  // round trips however many there are.
  void Decide(std::span<Transaction> transactions, Deadline deadline) override;
  absl::Status Check(Deadline deadline) override;

  // The key of a bucket: <prefix>:<layout version>:<limit>:<subject>.
  std::string Key(std::string_view limit, std::string_view subject) const;

 private:
  // One command of a round trip, and what Redis replied.
  struct Command {
    std::string text;
    Reply reply{};
  };

  // Sends the commands and waits for their replies, whatever Redis says. Those
  // for a script that Redis does not know are run once more, with the script.
  // `observed`: whether the metrics are told what it took.
  absl::Status RoundTrip(std::span<Command> commands, Deadline deadline, bool observed);
  absl::Status ReceiveAll(Connection& connection, std::span<Command> commands,
                          Deadline deadline) const;
  absl::Status LoadAndRepeat(Connection& connection, std::span<Command> commands,
                             Deadline deadline) const;

  std::string Evalsha(const Transaction& transaction) const;

  // What a caller is told of an error before its command was sent, and of one
  // whenever it came.
  absl::Status NotAsked(const absl::Status& error, Deadline deadline) const;
  absl::Status Unavailable(const absl::Status& error) const;

  const RedisOptions options_;
  const std::string key_prefix_;  // What every key begins with.
  const Script script_;
  const std::string load_script_;  // SCRIPT LOAD, formatted.
  Metrics& metrics_;
  ConnectionPool pool_;
};

}  // namespace ratelimiter
