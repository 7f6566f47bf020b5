#include "ratelimiter/service/readiness.h"

#include <utility>

namespace ratelimiter {

Readiness::Readiness(TokenBucketStore& store, Metrics& metrics, std::shared_ptr<Logger> logger,
                     bool serves_without_store)
    : store_(store),
      metrics_(metrics),
      logger_(std::move(logger)),
      serves_without_store_(serves_without_store) {}

Readiness::~Readiness() = default;

void Readiness::Start() {
  worker_.emplace([this] {
    // Bounded by the store's own timeout.
    const absl::Status status = store_.Check(Deadline::max());
    return Feed(status, std::chrono::steady_clock::now());
  });
}

void Readiness::WaitForFirstCheck() {
  // Far above what a healthy store takes, even on a busy machine.
  constexpr std::chrono::seconds kPatience{1};
  const auto end = std::chrono::steady_clock::now() + kPatience;
  const MutexLock lock(mutex_);
  while (!checked_ && changed_.WaitUntil(mutex_, end)) {
  }
  slow_ = !checked_;
}

Health Readiness::health() const {
  const MutexLock lock(mutex_);
  return health_;
}

void Readiness::AddObserver(HealthObserver& observer) {
  const MutexLock lock(mutex_);
  observers_.push_back(&observer);
  stopped_ ? observer.OnStopped() : observer.OnHealth(health_.serving);
}

void Readiness::RemoveObserver(HealthObserver& observer) {
  const MutexLock lock(mutex_);
  std::erase(observers_, &observer);
}

void Readiness::StopServing() {
  const MutexLock lock(mutex_);
  if (stopped_) return;
  stopped_ = true;
  health_ = {.serving = false, .reason = "shutting down"};
  for (HealthObserver* const observer : observers_) observer->OnStopped();
  metrics_.SetReady(false);
}

void Readiness::Publish(bool serving) {
  for (HealthObserver* const observer : observers_) observer->OnHealth(serving);
  metrics_.SetReady(serving);
}

std::chrono::milliseconds Readiness::Feed(const absl::Status& status,
                                          std::chrono::steady_clock::time_point now) {
  const bool ready = filter_.Feed(status.ok(), now);

  const MutexLock lock(mutex_);
  const bool first = !std::exchange(checked_, true);
  const bool changed = std::exchange(ready_, ready) != ready;
  if (stopped_) return filter_.interval();
  health_.serving = ready || serves_without_store_;
  if (!status.ok()) health_.reason = std::string(status.message());
  if (ready) health_.reason.clear();
  if (!first && !changed) return filter_.interval();
  Publish(health_.serving);
  if (!ready) {
    logger_->Limited(LogKind::kReadiness, spdlog::level::warn, "{}: {}",
                     health_.serving ? "degraded" : "not ready", health_.reason);
  } else if (!first || slow_) {  // Otherwise the start line says enough.
    logger_->Limited(LogKind::kReadiness, spdlog::level::info, "ready");
  }
  changed_.NotifyAll();
  return filter_.interval();
}

}  // namespace ratelimiter
