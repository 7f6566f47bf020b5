// The daemon's server over a pool of blocking connections to Redis, the plain
// way to build it: a call borrows a connection, sends one EVALSHA, and waits for
// the reply. For bench.py to measure the daemon against. It takes the daemon's
// settings; the host in REDIS_URL must be a numeric address.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <fmt/format.h>

#include "bench_server.h"
#include "blocking_pool.h"
#include "ratelimiter/redis/script.h"
#include "redis/script_invocation.h"

namespace ratelimiter {
namespace {

constexpr std::size_t kConnections = 16;

class BlockingPoolStore final : public TokenBucketStore {
 public:
  BlockingPoolStore(const Settings& settings, Metrics& metrics)
      : timeout_(settings.redis_timeout),
        // A layout version that the daemon does not use: these buckets are ours.
        key_prefix_(settings.key_prefix + ":0:"),
        script_(TokenBucketScript()),
        load_script_(FormatCommand({"SCRIPT", "LOAD", script_.source})),
        metrics_(metrics),
        pool_({.host = settings.redis_url.host, .port = settings.redis_url.port}, kConnections) {}

  void Decide(std::span<Transaction> transactions, Deadline deadline) override {
    RedisReply reply;
    for (Transaction& transaction : transactions) {
      ScriptCallBuilder one;
      one.calls.push_back(ScriptCall::Of(transaction));
      one.Write(key_prefix_);
      CommandText command;
      AppendCommand(one.calls[0], 1, script_, RunScript::kBySha1, command);
      transaction.status = Ask({command.data(), command.size()}, deadline, reply);
      if (transaction.status.ok()) ParseReply(one.calls[0], 1, reply);
    }
  }

  std::string Describe() const override { return "blocking pool"; }
  absl::Status Check(Deadline deadline) override {
    RedisReply reply;
    return Ask(FormatCommand({"PING"}), deadline, reply);
  }

 private:
  // Redis's reply to a command, on a connection that is this call's alone.
  absl::Status Ask(std::string_view command, Deadline deadline, RedisReply& reply) {
    const auto asked = std::chrono::steady_clock::now();
    const Deadline send_by = std::min(deadline, asked + timeout_);
    absl::StatusOr<BlockingPool::Lease> lease = pool_.Acquire(send_by);
    if (!lease.ok()) return Unavailable(lease.status());

    const auto sending = std::chrono::steady_clock::now();
    absl::Status status = RoundTrip(**lease, command, send_by, reply);
    if (status.ok() && reply.IsError("NOSCRIPT")) {
      status = RoundTrip(**lease, load_script_, send_by, reply);
      if (status.ok()) status = RoundTrip(**lease, command, send_by, reply);
    }
    metrics_.redis().Observe({.latency = std::chrono::steady_clock::now() - sending, .calls = 1});
    return status.ok() ? status : Unavailable(status);
  }

  absl::Status RoundTrip(Connection& connection, std::string_view command, Deadline send_by,
                         RedisReply& reply) const {
    if (absl::Status sent = connection.Send(command, send_by); !sent.ok()) return sent;
    return connection.Receive(reply, std::chrono::steady_clock::now() + timeout_);
  }

  static absl::Status Unavailable(const absl::Status& error) {
    return absl::UnavailableError(
        fmt::format("Redis is not available: {}", std::string(error.message())));
  }

  const std::chrono::milliseconds timeout_;
  const std::string key_prefix_;
  const Script script_;
  const std::string load_script_;  // SCRIPT LOAD, formatted.
  Metrics& metrics_;
  BlockingPool pool_;
};

}  // namespace
}  // namespace ratelimiter

int main(int argc, char** argv) {
  return ratelimiter::RunBenchServer(argc, argv, [](const auto& settings, auto& metrics) {
    return std::make_unique<ratelimiter::BlockingPoolStore>(settings, metrics);
  });
}
