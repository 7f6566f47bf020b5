#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <absl/status/statusor.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>

#include "ratelimiter/metrics/metrics.h"

namespace ratelimiter {

class LoopbackRelay;

// Serves /metrics over HTTP on its own threads until it is destroyed.
class MetricsExposer {
 public:
  // `bind`: an IPv4, IPv6 or IPv4-mapped address; "::" is all interfaces, IPv4 and IPv6.
  // `port`: 0 picks a free one. `metrics` must outlive the exposer. Errors: UNAVAILABLE if it
  // cannot listen there.
  static absl::StatusOr<MetricsExposer> Start(const std::string& bind, std::uint16_t port,
                                              const Metrics& metrics);
  ~MetricsExposer();
  MetricsExposer(MetricsExposer&&) noexcept;
  MetricsExposer& operator=(MetricsExposer&&) = delete;

  std::uint16_t port() const { return port_; }

 private:
  MetricsExposer(std::unique_ptr<prometheus::Exposer> exposer,
                 std::vector<std::shared_ptr<prometheus::Collectable>> collectables);

  // Before the exposer, which holds them weakly.
  std::vector<std::shared_ptr<prometheus::Collectable>> collectables_;
  std::unique_ptr<prometheus::Exposer> exposer_;
  std::unique_ptr<LoopbackRelay> relay_;
  std::uint16_t port_ = 0;
};

}  // namespace ratelimiter
