#include "connection_pool.h"

#include <chrono>
#include <random>
#include <string>
#include <utility>

#include <fmt/format.h>

namespace ratelimiter {
namespace {

// What a check looks at: a bucket that no call has, for none has an empty subject; on a
// Cluster's node some number's, for a node answers for its own slots alone.
constexpr Charge kCheck = {
    .limit = "check", .bucket_key = "", .spec = {1, 1, std::chrono::seconds(1)}, .cost = 0};

RedisServer WithKeys(RedisServer server, std::string_view key_prefix) {
  server.key_prefix = key_prefix;
  return server;
}

// Whether Redis answers, be it that the bucket looked at is none.
bool Answers(const absl::Status& check) { return check.ok() || absl::IsInternal(check); }

}  // namespace

ConnectionPool::ConnectionPool(const RedisOptions& options, std::string_view key_prefix,
                               const Script& script, Metrics& metrics, const Clock& clock,
                               std::unique_ptr<EndpointResolver> resolver)
    : key_prefix_(key_prefix),
      server_(WithKeys(options.server, key_prefix)),
      on_evicting_(options.on_evicting),
      breaker_(clock, std::random_device{}()),
      resolver_(std::move(resolver)),
      lanes_([&] {
        std::vector<std::unique_ptr<Lane>> lanes(options.pool_size);
        for (auto& lane : lanes) {
          lane = std::make_unique<Lane>(
              server_, options.timeout, script, *resolver_, breaker_, metrics,
              [this](const Connection& connection) { NoteEviction(connection); },
              options.max_connection_age);
        }
        return lanes;
      }()),
      prober_(
          fmt::format("Redis at {}", options.server.Address()), breaker_,
          [this] { return Answers(Look(Deadline::max(), Purpose::kProbe)); }, options.on_breaker) {}

void ConnectionPool::Run(std::span<ScriptCall> calls, Deadline deadline, Purpose purpose) {
  lanes_[calls.front().buckets.front() % lanes_.size()]->Run(calls, deadline, purpose);
}

absl::Status ConnectionPool::Look(Deadline deadline, Purpose purpose) {
  Charge charge = kCheck;
  const std::string bucket_key = fmt::format("{{{}}}", check_tag_.load(std::memory_order_relaxed));
  if (server_.cluster_node) charge.bucket_key = bucket_key;
  Decision decision;
  Transaction look = {
      .charges = {&charge, 1}, .action = Action::kPeek, .decisions = {&decision, 1}};
  ScriptCallBuilder calls;
  calls.calls.push_back(ScriptCall::Of(look));
  calls.Write(key_prefix_);
  Run(calls.calls, deadline, purpose);
  // A node that has lost the slot answers, too.
  return calls.calls.front().redirection.empty() ? look.status : absl::OkStatus();
}

std::size_t ConnectionPool::waiting_calls() const {
  std::size_t waiting = 0;
  for (const auto& lane : lanes_) waiting += lane->waiting();
  return waiting;
}

void ConnectionPool::NoteEviction(const Connection& connection) {
  const bool may_evict = !connection.evicts_by().empty();
  may_evict_.store(may_evict, std::memory_order_relaxed);
  if (!may_evict) return;
  std::call_once(warned_, [&] {
    on_evicting_(fmt::format(
        "Redis at {} may evict buckets (an evicted bucket resets to full): maxmemory-policy is {}; "
        "set noeviction",
        server_.Address(), connection.evicts_by()));
  });
}

}  // namespace ratelimiter
