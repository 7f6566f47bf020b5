#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include <absl/status/status.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/limiter/token_bucket_store.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/redis/connection.h"
#include "ratelimiter/redis/script.h"

namespace ratelimiter {

class DenyCache;
class RedisBackend;
struct ScriptCall;

struct RedisOptions {
  RedisServer server;
  // How long a call waits for Redis at most: until its command is sent (or its
  // deadline, if that is earlier), and then again for the reply. Above zero.
  std::chrono::milliseconds timeout{100};
  // Connections to each server at most, each shared by callers; 1 and more.
  std::size_t pool_size = 1;
  // Age at which a connection is replaced (±10 %), so that a name that was repointed is
  // followed though the old server still answers. 0: never.
  std::chrono::milliseconds max_connection_age{0};
  // What every key begins with. Must not contain '{' or '}'.
  std::string key_prefix = "rl";
  // How long a refusal is known without asking, at most, and of how many buckets.
  // 0: not at all.
  std::chrono::microseconds deny_cache_max_age = std::chrono::milliseconds(100);
  std::size_t deny_cache_size = 10'000;
  // Is told, on a thread of its own, when Redis is given up (open) and when it is
  // asked again, with the reason.
  std::function<void(bool open, const std::string& message)> on_breaker =
      [](bool /*open*/, const std::string& /*message*/) {};
  // Is told once, on a caller's thread, if Redis may evict buckets.
  std::function<void(const std::string& message)> on_evicting = [](const std::string& /*message*/) {
  };
};

// Token buckets in Redis, shared by every instance that uses the same server,
// database and key prefix. Decided by Redis's own clock, in one round trip that
// callers who come at the same time share; or in none where a bucket refused just
// before and must refuse still. While Redis fails, calls get UNAVAILABLE without
// waiting for it, and it is probed until it answers.
//
// Thread-safe.
class RedisTokenBucket final : public TokenBucketStore {
 public:
  // Connects when first used. What it is given must outlive this. `clock`: never
  // steps back; for how long refusals are known. `script` is for tests that set
  // Redis's time.
  RedisTokenBucket(RedisOptions options, Metrics& metrics, const Clock& clock,
                   Script script = TokenBucketScript());
  ~RedisTokenBucket() override;

  // Sends what it can of the transactions in one write, and so waits for few
  // round trips however many there are.
  void Decide(std::span<Transaction> transactions, Deadline deadline) override;
  absl::Status Check(Deadline deadline) override;
  std::string Describe() const override;
  // <prefix>:<layout version>:<limit>:<bucket key>, the key in Redis.
  std::string Key(std::string_view limit, std::string_view bucket_key) const override;
  void PublishIn(Metrics& metrics) const override;

  // How many Redis servers are not asked now because they fail, of which there are
  // several in a Cluster alone, and how often that began.
  std::size_t open_breakers() const;
  std::uint64_t breaker_openings() const;
  // How many callers wait for a turn on a connection now.
  std::size_t waiting_calls() const;
  // Whether Redis, as far as it is connected to, may evict buckets.
  bool may_evict() const;

 private:
  // Decides transactions of one round trip.
  void DecideTogether(std::span<Transaction> transactions, Deadline deadline);
  // Answers a transaction if it is known that it is refused. False: it is to be
  // asked for, behind those that are `before` it.
  bool Refuse(const ScriptCall& call, std::span<const ScriptCall> before,
              std::chrono::microseconds now) const;
  // Tells denied_ what the buckets answered, and that they are given tokens.
  void Note(const ScriptCall& call, std::chrono::microseconds asked, std::uint64_t forgotten);
  void Forget(const ScriptCall& call);

  const RedisOptions options_;
  const std::string key_prefix_;  // What every key begins with.
  const Script script_;
  const Clock& clock_;
  // Self-synchronised.
  Metrics& metrics_;
  const std::unique_ptr<DenyCache> denied_;
  const std::unique_ptr<RedisBackend> backend_;
};

}  // namespace ratelimiter
