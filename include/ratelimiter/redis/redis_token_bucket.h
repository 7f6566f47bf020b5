#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

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

  absl::StatusOr<Decision> Decide(const Limit& limit, std::string_view subject, Charge charge,
                                  Deadline deadline) override;
  absl::Status Check(Deadline deadline) override;

  // The key of the bucket that `limit` keeps for `subject`:
  // <prefix>:<layout version>:{<subject>}:<limit>. '%' and '}' in the subject
  // are written %25 and %7D, so that no subject can end the hash tag or pass
  // for another's key.
  std::string Key(const Limit& limit, std::string_view subject) const;

 private:
  // The script's call for one charge.
  std::string Evalsha(const Limit& limit, std::string_view subject, Charge charge) const;

  // Sends one command and waits for its reply, whatever Redis says. A command
  // for a script that Redis does not know is run once more, with the script.
  // `observed`: whether the metrics are told what it took.
  absl::StatusOr<Reply> RoundTrip(std::string_view command, Deadline deadline, bool observed);
  absl::StatusOr<Reply> LoadAndRepeat(Connection& connection, std::string_view command,
                                      Deadline deadline) const;

  // What a caller is told of an error before its command was sent, and of one
  // whenever it came.
  absl::Status NotAsked(const absl::Status& error, Deadline deadline) const;
  absl::Status Unavailable(const absl::Status& error) const;

  const RedisOptions options_;
  const Script script_;
  const std::string load_script_;  // SCRIPT LOAD, formatted.
  Metrics& metrics_;
  ConnectionPool pool_;
};

}  // namespace ratelimiter
