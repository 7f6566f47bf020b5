#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include <absl/status/statusor.h>

#include "ratelimiter/base/log.h"
#include "ratelimiter/config/server_tls.h"
#include "ratelimiter/config/settings.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/limiter/token_bucket_store.h"
#include "ratelimiter/metrics/metrics.h"

namespace ratelimiter {

// What health says, and why.
struct Health {
  bool serving = false;
  // Why it does not, or why FAIL_MODE decides calls instead of the store; empty: the
  // store decides them.
  std::string reason{};
};

// The gRPC server: limiter.RateLimiter, health and reflection, from the first
// call until the last one is answered.
class Server {
 public:
  // Listens on settings.bind and settings.port, with `tls`, or without TLS where that is
  // nullptr. What it is given must outlive it. UNAVAILABLE if it cannot listen there. Returns when
  // the store has been asked whether it is well, or is slow to answer; health says NOT_SERVING
  // until it has. Once a process: gRPC's and protobuf's logs are led to `logger` for good.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Settings& settings,
                                                       const ServerTls* tls, Limiter& limiter,
                                                       TokenBucketStore& store, Metrics& metrics,
                                                       std::shared_ptr<Logger> logger);

  virtual ~Server() = default;

  virtual std::uint16_t port() const = 0;

  // Not to be called during Shutdown or after it.
  virtual Health health() const = 0;

  // Decides and counts a request that comes otherwise than by gRPC, as AllowRequest
  // would.
  virtual absl::StatusOr<Answer> Allow(const Request& request, Deadline deadline) = 0;

  // Health says NOT_SERVING from now on; calls are still answered.
  virtual void StopServing() = 0;

  // Accepts no more calls, and waits for those in flight; what is not done
  // after `grace` (streams of reflection and health that clients keep open) is
  // cancelled.
  virtual void Shutdown(std::chrono::milliseconds grace) = 0;
};

}  // namespace ratelimiter
