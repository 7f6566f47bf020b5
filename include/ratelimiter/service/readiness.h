#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/status.h>

#include "ratelimiter/base/log.h"
#include "ratelimiter/base/mutex.h"
#include "ratelimiter/base/periodic_worker.h"
#include "ratelimiter/limiter/token_bucket_store.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/service/readiness_filter.h"

namespace ratelimiter {

// Whether the daemon takes calls.
struct Health {
  bool serving = false;
  // Not serving: why. Serving: why FAIL_MODE decides calls instead of the store (degraded);
  // empty if the store decides them.
  std::string reason{};
};

// Follows the health, e.g. to publish it in a front's protocol.
class HealthObserver {
 public:
  virtual ~HealthObserver() = default;

  // Called with the current health on registration, then on each change, by one thread at a
  // time. Must not call Readiness.
  virtual void OnHealth(bool serving) = 0;
  // Not serving from now on, for good.
  virtual void OnStopped() = 0;
};

// Keeps the health up to date: checks the store every second, and more often while in doubt,
// lets ReadinessFilter judge the results, and logs each change. Not serving before the first
// check ends. A daemon that serves without its store (FAIL_MODE) is serving whatever the checks
// say.
//
// Thread-safe.
class Readiness {
 public:
  // `store` and `metrics` must outlive this object.
  Readiness(TokenBucketStore& store, Metrics& metrics, std::shared_ptr<Logger> logger,
            bool serves_without_store);
  ~Readiness();
  Readiness(const Readiness&) = delete;
  Readiness& operator=(const Readiness&) = delete;

  // Starts checking, on a thread of its own until destruction. Once.
  void Start();
  // Waits until the first check ends, but no longer than a healthy store takes: so that a daemon
  // with a healthy store starts as serving, and a failing store delays nothing.
  void WaitForFirstCheck();

  // Takes the result of a check that ended at `now`. Returns when the next one is due. One call
  // at a time; for tests, which do not Start.
  std::chrono::milliseconds Feed(const absl::Status& status,
                                 std::chrono::steady_clock::time_point now);

  Health health() const;

  // Observers must be removed before they are destroyed.
  void AddObserver(HealthObserver& observer);
  void RemoveObserver(HealthObserver& observer);

  // Not serving from now on, whatever the store says.
  void StopServing();

 private:
  void Publish(bool serving) REQUIRES(mutex_);

  // Constant after construction.
  TokenBucketStore& store_;
  Metrics& metrics_;
  const std::shared_ptr<Logger> logger_;
  const bool serves_without_store_;

  // Used by the checking thread alone.
  ReadinessFilter filter_;

  mutable Mutex mutex_;
  CondVar changed_;
  std::vector<HealthObserver*> observers_ GUARDED_BY(mutex_);
  Health health_ GUARDED_BY(mutex_){.serving = false, .reason = "the store was not checked yet"};
  bool ready_ GUARDED_BY(mutex_) = false;
  bool checked_ GUARDED_BY(mutex_) = false;
  // The first check took longer than a start waits for.
  bool slow_ GUARDED_BY(mutex_) = false;
  bool stopped_ GUARDED_BY(mutex_) = false;

  std::optional<PeriodicWorker> worker_;  // Last: its thread uses the members above.
};

}  // namespace ratelimiter
