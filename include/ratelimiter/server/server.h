#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include <absl/status/statusor.h>

#include "ratelimiter/base/log.h"
#include "ratelimiter/config/server_tls.h"
#include "ratelimiter/config/settings.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/service/decision_service.h"

namespace ratelimiter {

// The gRPC front: limiter.RateLimiter, health and reflection.
class Server {
 public:
  // Listens on settings.bind and settings.port; `tls`: nullptr without TLS. The arguments must
  // outlive the server. UNAVAILABLE if it cannot listen there. Once a process: gRPC's and
  // protobuf's logs go to `logger` from now on.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Settings& settings,
                                                       const ServerTls* tls,
                                                       DecisionService& service, Metrics& metrics,
                                                       std::shared_ptr<Logger> logger);

  virtual ~Server() = default;

  virtual std::uint16_t port() const = 0;

  // Stops accepting calls and waits for those in flight. What has not ended after `grace`
  // (streams of reflection and health that clients keep open) is cancelled.
  virtual void Shutdown(std::chrono::milliseconds grace) = 0;
};

}  // namespace ratelimiter
