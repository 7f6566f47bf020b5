#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "ratelimiter/base/log.h"
#include "ratelimiter/metrics/status_counter.h"

namespace ratelimiter {

// How reloads of the limits file went.
struct Reloads {
  std::uint64_t succeeded = 0;
  std::uint64_t failed = 0;
  bool last_succeeded = true;
  // When the limits in force were read.
  std::chrono::system_clock::time_point loaded_at{};
};

// What decided a call in place of a store that failed, by FAIL_MODE's names.
enum class DegradedMode : std::uint8_t { kError, kOpen, kClosed, kLocal };

// Every metric of the daemon, by name. README.md has the table.
//
// Thread-safe. The handles are resolved once, here, never on a request's way.
class Metrics {
 public:
  // `max_users`: see StatusCounter. `version`: for rate_limiter_build_info.
  Metrics(std::size_t max_users, const std::string& version);

  RequestCounter& requests() { return *requests_; }
  LimitCounter& decisions() { return *decisions_; }

  // A call that was refused at once, for too many others were in flight.
  void CountShed() { shed_.Increment(); }

  // A call that the store failed.
  void CountDegraded(DegradedMode mode) { degraded_[static_cast<std::size_t>(mode)]->Increment(); }

  // One round trip to Redis, successful or not.
  void ObserveRedisLatency(std::chrono::steady_clock::duration latency);

  // Publishes the in-memory store's figures, read at each scrape. The functions
  // must be callable for as long as anything scrapes.
  void PublishMemoryStore(std::function<std::size_t()> buckets,
                          std::function<std::uint64_t()> rejected);

  // The same for the breakers of the Redis store: how many are open, and how often one
  // has opened.
  void PublishBreakers(std::function<std::size_t()> open, std::function<std::uint64_t()> openings);

  // The same for the calls that the server works on.
  void PublishInFlight(std::function<std::size_t()> calls);

  // The same for the limits file.
  void PublishReloads(std::function<Reloads()> read);

  // The same for the lines that the log dropped, by kind.
  void PublishLogDrops(std::function<std::uint64_t(LogKind)> lines);

  // What an exposer serves.
  const std::vector<std::shared_ptr<prometheus::Collectable>>& collectables() const {
    return collectables_;
  }

 private:
  const std::shared_ptr<prometheus::Registry> registry_;
  const std::shared_ptr<RequestCounter> requests_;
  const std::shared_ptr<LimitCounter> decisions_;
  prometheus::Counter& shed_;
  const std::array<prometheus::Counter*, 4> degraded_;  // By DegradedMode.
  prometheus::Histogram& redis_latency_;
  std::vector<std::shared_ptr<prometheus::Collectable>> collectables_;
};

// Serves /metrics over HTTP from its own threads until it is destroyed.
class MetricsExposer {
 public:
  // `bind`: an IPv4 or IPv6 address; "::" is all interfaces, IPv4 and IPv6.
  // `port`: 0 picks a free one. UNAVAILABLE if it cannot listen there.
  static absl::StatusOr<MetricsExposer> Start(const std::string& bind, std::uint16_t port,
                                              const Metrics& metrics);

  std::uint16_t port() const;

 private:
  MetricsExposer(std::unique_ptr<prometheus::Exposer> exposer,
                 std::vector<std::shared_ptr<prometheus::Collectable>> collectables);

  // Before the exposer, which holds them weakly.
  std::vector<std::shared_ptr<prometheus::Collectable>> collectables_;
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace ratelimiter
