#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <prometheus/collectable.h>

#include "ratelimiter/base/fail_mode.h"
#include "ratelimiter/base/user_label.h"
#include "ratelimiter/metrics/call_metrics.h"
#include "ratelimiter/metrics/heavy_hitters.h"
#include "ratelimiter/metrics/metric_table.h"
#include "ratelimiter/metrics/redis_metrics.h"
#include "ratelimiter/metrics/status_counter.h"

namespace ratelimiter {

// How users are shown.
struct UserMetrics {
  UserLabel label = UserLabel::kPlain;
  // How many of the heaviest, by requests allowed and by requests denied, have gauges.
  std::size_t top = 20;
};

// Every metric of the daemon; metric_table.cpp has their names, docs/use/metrics.md tells more.
//
// Thread-safe, but for Publish. What calls count takes no lock that all share, and
// allocates nothing.
class Metrics {
 public:
  // `max_users`: see StatusCounter. `version`: for rate_limiter_build_info.
  Metrics(std::size_t max_users, const std::string& version, const UserMetrics& users = {});
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // A request, by its user.
  void CountRequest(std::string_view user, RequestStatus status) {
    requests_->Count(user, status);
    if (status != RequestStatus::kError) heavy_users(status).Count(user);
  }

  RequestCounter& requests() { return *requests_; }
  LimitCounter& decisions() { return *decisions_; }
  CallMetrics& calls() { return *calls_; }
  RedisMetrics& redis() { return redis_; }
  // Who sends most of what is allowed, or denied.
  HeavyHitters& heavy_users(RequestStatus status) {
    return status == RequestStatus::kAllowed ? heavy_allowed_ : heavy_denied_;
  }

  // A call that was refused at once, for too many others were in flight.
  void CountShed() { shed_.fetch_add(1, std::memory_order_relaxed); }

  // A call that the store failed.
  void CountDegraded(FailMode mode) {
    degraded_[static_cast<std::size_t>(mode)].fetch_add(1, std::memory_order_relaxed);
  }

  // What gRPC health says from now on.
  void SetReady(bool ready) { ready_.store(ready, std::memory_order_relaxed); }

  // Publishes a counter or a gauge without labels: `read` is called at each scrape. To be
  // called before the first, and `read` must be callable for as long as anything scrapes.
  void Publish(Metric metric, std::function<double()> read);
  // The same of one whose only label has fixed values: `read` is given the place of each.
  void Publish(Metric metric, std::function<double(std::size_t value)> read);
  // What redis() counts, all but the latency, which is published always.
  void PublishRedis();

  bool Publishes(Metric metric) const;
  // What is published of a counter or a gauge without labels; 0: nothing is.
  double Value(Metric metric) const;
  // The same of one with one label, for each of its values; empty: nothing is.
  std::vector<std::pair<std::string, double>> ByLabel(Metric metric) const;

  // What an exposer serves. It must not outlive this.
  const std::vector<std::shared_ptr<prometheus::Collectable>>& collectables() const {
    return collectables_;
  }

 private:
  class Families;

  std::vector<prometheus::ClientMetric> HeavySamples() const;

  const std::shared_ptr<Families> families_;
  const std::shared_ptr<RequestCounter> requests_;
  const std::shared_ptr<LimitCounter> decisions_;
  const std::shared_ptr<CallMetrics> calls_;
  const std::size_t top_users_;
  HeavyHitters heavy_allowed_;
  HeavyHitters heavy_denied_;
  RedisMetrics redis_;
  std::atomic<std::uint64_t> shed_{0};
  std::array<std::atomic<std::uint64_t>, kFailModes.size()> degraded_{};  // By FailMode.
  std::atomic<bool> ready_{false};
  const std::vector<std::shared_ptr<prometheus::Collectable>> collectables_;
};

}  // namespace ratelimiter
