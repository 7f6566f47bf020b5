#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include <grpcpp/health_check_service_interface.h>

#include "ratelimiter/base/log.h"
#include "ratelimiter/limiter/token_bucket_store.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/server/server.h"
#include "readiness_filter.h"

namespace ratelimiter {

// Keeps gRPC health (of "" and of limiter.RateLimiter) at what the store can do:
// asks it every second, and more often while in doubt, on a thread of its own,
// has ReadinessFilter judge its answers, and logs each change, which the metrics show. Until the
// store has answered for the first time, health says NOT_SERVING. A daemon that serves without its
// store (FAIL_MODE) is SERVING whatever the store answers, and so is the name "liveness" of any
// that is not about to end.
//
// What it is given must outlive it.
class Readiness {
 public:
  // Returns when the store has answered for the first time, or is slow to: health
  // is then right from the start of a daemon whose store is well, and a store that
  // is not holds up neither the start nor the end.
  Readiness(TokenBucketStore& store, grpc::HealthCheckServiceInterface& health, Metrics& metrics,
            std::shared_ptr<Logger> logger, bool serves_without_store = false);
  ~Readiness();
  Readiness(const Readiness&) = delete;
  Readiness& operator=(const Readiness&) = delete;

  // Thread-safe.
  Health health() const;

  // NOT_SERVING from now on, whatever the store says. Thread-safe.
  void StopServing();

 private:
  void SetServing(bool serving);
  void Ask();
  void Run();

  TokenBucketStore& store_;
  grpc::HealthCheckServiceInterface& health_;
  Metrics& metrics_;
  const std::shared_ptr<Logger> logger_;
  const bool serves_without_store_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  bool stopped_ = false;
  bool answered_ = false;
  Health now_{.serving = false, .reason = "the store has not answered yet"};
  bool slow_ = false;  // It had not answered when the constructor returned.

  // Of the asking thread alone.
  ReadinessFilter filter_;
  bool ready_ = false;

  std::thread thread_;  // Last, for it uses the others.
};

}  // namespace ratelimiter
