#include "ratelimiter/redis/redis_token_bucket.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include <fmt/format.h>

#include "cluster.h"
#include "command_batch.h"
#include "connection_pool.h"
#include "endpoint_resolver.h"
#include "ratelimiter/resilience/deny_cache.h"
#include "redis_backend.h"
#include "script_invocation.h"

namespace ratelimiter {
namespace {

// Goes up when the meaning of a stored bucket changes, so that instances of
// both versions do not read each other's.
constexpr int kLayoutVersion = 1;

// Buckets of one round trip at most: enough that few are needed, and so few that
// they are decided well within REDIS_TIMEOUT and that other callers' commands come
// between.
constexpr std::size_t kMaxBuckets = CommandBatch::kMaxBuckets / 2;

// How many of the first transactions go in one round trip.
std::size_t RoundTripSize(std::span<const Transaction> transactions) {
  std::size_t size = 0;
  std::size_t buckets = 0;
  while (size < transactions.size()) {
    buckets += transactions[size].charges.size();
    if (size > 0 && buckets > kMaxBuckets) break;
    ++size;
  }
  return size;
}

}  // namespace

RedisTokenBucket::RedisTokenBucket(RedisOptions options, Metrics& metrics, const Clock& clock,
                                   Script script)
    : options_(std::move(options)),
      key_prefix_(fmt::format("{}:{}:", options_.key_prefix, kLayoutVersion)),
      script_(std::move(script)),
      clock_(clock),
      metrics_(metrics),
      denied_(std::make_unique<DenyCache>(options_.deny_cache_size, options_.deny_cache_max_age)),
      backend_([&]() -> std::unique_ptr<RedisBackend> {
        if (!options_.server.cluster.empty()) {
          return std::make_unique<Cluster>(options_, key_prefix_, script_, metrics, clock_);
        }
        return std::make_unique<ConnectionPool>(
            options_, key_prefix_, script_, metrics, clock_,
            MakeEndpointResolver(options_.server, options_.timeout));
      }()) {}

RedisTokenBucket::~RedisTokenBucket() = default;

void RedisTokenBucket::Decide(std::span<Transaction> transactions, Deadline deadline) {
  while (!transactions.empty()) {
    const std::size_t size = RoundTripSize(transactions);
    DecideTogether(transactions.first(size), deadline);
    transactions = transactions.subspan(size);
  }
}

void RedisTokenBucket::DecideTogether(std::span<Transaction> transactions, Deadline deadline) {
  const std::chrono::microseconds asked = clock_.Now();
  const std::uint64_t forgotten = denied_->forgotten();
  ScriptCallBuilder calls;
  for (Transaction& transaction : transactions) {
    ScriptCall call = ScriptCall::Of(transaction);
    if (Refuse(call, calls.calls, asked)) {
      metrics_.redis().CountDenyCacheHit();
    } else {
      calls.calls.push_back(std::move(call));
    }
  }
  if (calls.calls.empty()) return;
  calls.Write(key_prefix_);
  backend_->Run(calls.calls, deadline, Purpose::kCall);
  for (const ScriptCall& call : calls.calls) {
    if (call.transaction->action == Action::kRefund) {
      Forget(call);  // Whatever came of it: it may have been carried out.
    } else if (call.transaction->action == Action::kTake && call.transaction->status.ok()) {
      Note(call, asked, forgotten);
    }
  }
}

bool RedisTokenBucket::Refuse(const ScriptCall& call, std::span<const ScriptCall> before,
                              std::chrono::microseconds now) const {
  Transaction& transaction = *call.transaction;
  const auto& charges = transaction.charges;
  // What shadows say is counted, so that they must be asked.
  if (transaction.action != Action::kTake || std::ranges::any_of(charges, &Charge::shadow)) {
    return false;
  }
  std::size_t known = 0;
  for (std::size_t i = 0; i < charges.size(); ++i) {
    const auto refusal = denied_->Find(charges[i], call.buckets[i], now);
    transaction.decisions[i] = refusal.value_or(Decision{.known = false});
    if (!refusal.has_value()) continue;
    ++known;
    // What those before it will do to the bucket is not known yet.
    const std::size_t bucket = call.buckets[i];
    const bool touched = std::ranges::any_of(before, [&](const ScriptCall& other) {
      return std::ranges::find(other.buckets, bucket) != other.buckets.end();
    });
    if (touched) return false;
  }
  if (known == 0 || (transaction.complete && known < charges.size())) return false;
  transaction.status = absl::OkStatus();
  return true;
}

void RedisTokenBucket::Note(const ScriptCall& call, std::chrono::microseconds asked,
                            std::uint64_t forgotten) {
  const Transaction& transaction = *call.transaction;
  const std::chrono::microseconds now = clock_.Now();
  for (std::size_t i = 0; i < transaction.charges.size(); ++i) {
    denied_->Note(transaction.charges[i], call.buckets[i], transaction.decisions[i], asked, now,
                  forgotten);
  }
}

void RedisTokenBucket::Forget(const ScriptCall& call) {
  const auto& charges = call.transaction->charges;
  for (std::size_t i = 0; i < charges.size(); ++i) denied_->Forget(charges[i], call.buckets[i]);
}

absl::Status RedisTokenBucket::Check(Deadline deadline) { return backend_->Check(deadline); }

std::string RedisTokenBucket::Describe() const {
  const RedisServer& server = options_.server;
  if (!server.cluster.empty()) return fmt::format("redis at {}", server.Address());
  const bool by_host = server.socket.empty() && server.sentinels.empty();
  return fmt::format("redis at {}{}{}{}", server.Address(), by_host ? "/" : " database ",
                     server.database, server.tls == nullptr ? "" : " over TLS");
}

void RedisTokenBucket::PublishIn(Metrics& metrics) const {
  metrics.PublishRedis();
  metrics.Publish(Metric::kRedisWaitingCalls, [this] { return waiting_calls(); });
  metrics.Publish(Metric::kRedisMayEvict, [this] { return may_evict() ? 1 : 0; });
  metrics.Publish(Metric::kBreakerOpen, [this] { return open_breakers(); });
  metrics.Publish(Metric::kBreakerOpened, [this] { return breaker_openings(); });
}

std::size_t RedisTokenBucket::open_breakers() const { return backend_->open_breakers(); }

std::uint64_t RedisTokenBucket::breaker_openings() const { return backend_->breaker_openings(); }

std::size_t RedisTokenBucket::waiting_calls() const { return backend_->waiting_calls(); }

bool RedisTokenBucket::may_evict() const { return backend_->may_evict(); }

std::string RedisTokenBucket::Key(std::string_view limit, std::string_view bucket_key) const {
  return fmt::format("{}{}:{}", key_prefix_, limit, bucket_key);
}

}  // namespace ratelimiter
