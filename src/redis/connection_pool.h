#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <absl/status/status.h>

#include "endpoint_resolver.h"
#include "lane.h"
#include "ratelimiter/base/clock.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/redis/connection.h"
#include "ratelimiter/redis/redis_token_bucket.h"
#include "ratelimiter/redis/script.h"
#include "ratelimiter/resilience/breaker.h"
#include "ratelimiter/resilience/prober.h"
#include "redis_backend.h"
#include "script_invocation.h"

namespace ratelimiter {

// The connections to one Redis, each shared by the callers whose buckets it
// serves, and its breaker, which is probed by a look as Check does it.
//
// Thread-safe. Destroying it waits for a probe, if one is under way.
class ConnectionPool final : public RedisBackend {
 public:
  // `key_prefix`: what keys begin with, the layout's version included. What it is
  // given must outlive it.
  ConnectionPool(const RedisOptions& options, std::string_view key_prefix, const Script& script,
                 Metrics& metrics, const Clock& clock, std::unique_ptr<EndpointResolver> resolver);

  // As Lane::Run does. Calls of one bucket go the same way, so that they can be folded.
  void Run(std::span<ScriptCall> calls, Deadline deadline, Purpose purpose) override;

  absl::Status Check(Deadline deadline) override { return Look(deadline, Purpose::kCheck); }

  // For a node of a Cluster: has Check look at a bucket whose hash tag is this number,
  // for a node answers for its own slots alone.
  void SetCheckTag(std::uint32_t tag) { check_tag_.store(tag, std::memory_order_relaxed); }

  std::size_t open_breakers() const override { return breaker_.open() ? 1 : 0; }
  std::uint64_t breaker_openings() const override { return breaker_.openings(); }
  std::size_t waiting_calls() const override;
  bool may_evict() const override { return may_evict_.load(std::memory_order_relaxed); }

 private:
  // What Check does, also as a probe.
  absl::Status Look(Deadline deadline, Purpose purpose);
  void NoteEviction(const Connection& connection);

  const std::string_view key_prefix_;
  const RedisServer server_;
  const std::function<void(const std::string& message)> on_evicting_;
  std::once_flag warned_;
  std::atomic<bool> may_evict_ = false;
  std::atomic<std::uint32_t> check_tag_ = 0;
  Breaker breaker_;
  const std::unique_ptr<EndpointResolver> resolver_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  Prober prober_;  // Last, for it uses the others.
};

}  // namespace ratelimiter
