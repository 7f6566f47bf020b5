// The daemon's server over a pool of blocking connections to Redis, the plain
// way to build it: a call borrows a connection, sends one EVALSHA, and waits for
// the reply. For bench.py to measure the daemon against. It takes the daemon's
// settings; the host in REDIS_URL must be a numeric address.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
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
#include "redis/command_writer.h"

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
    for (Transaction& transaction : transactions) {
      const absl::StatusOr<Reply> reply = Ask(Evalsha(transaction), deadline);
      transaction.status = reply.ok() ? Read(**reply, transaction) : reply.status();
    }
  }

  absl::Status Check(Deadline deadline) override {
    return Ask(FormatCommand({"PING"}), deadline).status();
  }

 private:
  // As token_bucket.lua states it.
  std::string Evalsha(const Transaction& transaction) const {
    constexpr std::size_t kArgumentsPerCharge = 7;
    const auto& charges = transaction.charges;
    CommandWriter command(4 + kArgumentsPerCharge * charges.size());
    command.Add({"EVALSHA"});
    command.Add({script_.sha1});
    command.Add(charges.size());
    for (const Charge& charge : charges) {
      command.Add({key_prefix_, charge.limit, ":", charge.subject});
    }
    command.Add({transaction.action == Action::kTake ? "take" : "look"});
    for (const Charge& charge : charges) {
      command.Add(charge.quota.capacity);
      command.Add(charge.quota.refill_tokens);
      command.Add(static_cast<std::uint64_t>(charge.quota.refill_interval.count()));
      command.Add(Fingerprint(charge.quota));
      command.Add(charge.cost);
      command.Add({charge.shadow ? "1" : "0"});
    }
    return command.Take();
  }

  // Redis's reply to a command, on a connection that is this call's alone.
  absl::StatusOr<Reply> Ask(const std::string& command, Deadline deadline) {
    const auto asked = std::chrono::steady_clock::now();
    const Deadline send_by = std::min(deadline, asked + timeout_);
    absl::StatusOr<BlockingPool::Lease> lease = pool_.Acquire(send_by);
    if (!lease.ok()) return Unavailable(lease.status());

    const auto sending = std::chrono::steady_clock::now();
    absl::StatusOr<Reply> reply = RoundTrip(**lease, command, send_by);
    if (reply.ok() && IsNoScript(**reply)) {
      reply = RoundTrip(**lease, load_script_, send_by);
      if (reply.ok()) reply = RoundTrip(**lease, command, send_by);
    }
    metrics_.ObserveRedisLatency(std::chrono::steady_clock::now() - sending);
    if (!reply.ok()) return Unavailable(reply.status());
    return reply;
  }

  absl::StatusOr<Reply> RoundTrip(Connection& connection, std::string_view command,
                                  Deadline send_by) const {
    if (absl::Status sent = connection.Send(command, send_by); !sent.ok()) return sent;
    return connection.Receive(std::chrono::steady_clock::now() + timeout_);
  }

  static bool IsNoScript(const redisReply& reply) {
    return reply.type == REDIS_REPLY_ERROR &&
           std::string_view(reply.str, reply.len).starts_with("NOSCRIPT");
  }

  static absl::Status Read(const redisReply& reply, Transaction& transaction) {
    constexpr std::size_t kNumbers = 4;
    if (reply.type != REDIS_REPLY_ARRAY ||
        reply.elements != kNumbers * transaction.charges.size()) {
      return absl::UnavailableError("Redis's reply is not a decision");
    }
    const std::span elements(reply.element, reply.elements);
    for (std::size_t i = 0; i < transaction.charges.size(); ++i) {
      const auto number = [&](std::size_t at) { return elements[kNumbers * i + at]->integer; };
      transaction.decisions[i] = {.allowed = number(0) == 1,
                                  .remaining = static_cast<std::uint64_t>(number(1)),
                                  .retry_after = std::chrono::microseconds(number(2)),
                                  .reset_after = std::chrono::microseconds(number(3))};
    }
    return absl::OkStatus();
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
