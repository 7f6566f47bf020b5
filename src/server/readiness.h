#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include <grpcpp/health_check_service_interface.h>
#include <spdlog/logger.h>

#include "ratelimiter/limiter/token_bucket_store.h"

namespace ratelimiter {

// Keeps gRPC health (of "" and of limiter.RateLimiter) at what the store can do:
// asks it every second on a thread of its own, and logs each change.
//
// What it is given must outlive it.
class Readiness {
 public:
  // Returns once the store was asked for the first time.
  Readiness(TokenBucketStore& store, grpc::HealthCheckServiceInterface& health,
            std::shared_ptr<spdlog::logger> logger);
  ~Readiness();
  Readiness(const Readiness&) = delete;
  Readiness& operator=(const Readiness&) = delete;

  // Whether health says SERVING. Thread-safe.
  bool ready() const;

  // NOT_SERVING from now on, whatever the store says. Thread-safe.
  void StopServing();

 private:
  void Ask();
  void Run();

  TokenBucketStore& store_;
  grpc::HealthCheckServiceInterface& health_;
  const std::shared_ptr<spdlog::logger> logger_;

  mutable std::mutex mutex_;
  std::condition_variable stopping_;
  // Guarded by mutex_.
  bool stopped_ = false;
  bool serving_ = false;

  // Of the asking thread alone.
  bool ready_ = false;
  bool asked_ = false;

  std::thread thread_;  // Last, for it uses the others.
};

}  // namespace ratelimiter
