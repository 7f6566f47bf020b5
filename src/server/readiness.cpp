#include "readiness.h"

#include <chrono>
#include <string>
#include <utility>

#include "limiter/limiter.grpc.pb.h"

namespace ratelimiter {
namespace {

// What says that the process serves, whatever the store does.
constexpr const char* kLiveness = "liveness";
// Far above what a store that is well takes, on a busy machine too.
constexpr std::chrono::seconds kFirstAnswer{1};

}  // namespace

Readiness::Readiness(TokenBucketStore& store, grpc::HealthCheckServiceInterface& health,
                     Metrics& metrics, std::shared_ptr<Logger> logger, bool serves_without_store)
    : store_(store),
      health_(health),
      metrics_(metrics),
      logger_(std::move(logger)),
      serves_without_store_(serves_without_store) {
  health_.SetServingStatus(kLiveness, true);
  SetServing(false);
  thread_ = std::thread([this] { Run(); });
  std::unique_lock lock(mutex_);
  slow_ = !changed_.wait_for(lock, kFirstAnswer, [this] { return answered_; });
}

Readiness::~Readiness() {
  StopServing();
  thread_.join();
}

Health Readiness::health() const {
  const std::lock_guard lock(mutex_);
  return now_;
}

void Readiness::StopServing() {
  const std::lock_guard lock(mutex_);
  if (stopped_) return;
  stopped_ = true;
  now_ = {.serving = false, .reason = "it is about to end"};
  health_.Shutdown();
  metrics_.SetReady(false);
  changed_.notify_all();
}

void Readiness::SetServing(bool serving) {
  health_.SetServingStatus("", serving);
  health_.SetServingStatus(limiter::RateLimiter::service_full_name(), serving);
  metrics_.SetReady(serving);
}

void Readiness::Ask() {
  // The store's own bound is the only one.
  const absl::Status status = store_.Check(Deadline::max());
  const bool was_ready = ready_;
  ready_ = filter_.Feed(status.ok(), std::chrono::steady_clock::now());

  const std::lock_guard lock(mutex_);
  const bool first = !std::exchange(answered_, true);
  if (stopped_) return;
  now_.serving = ready_ || serves_without_store_;
  if (!status.ok()) now_.reason = std::string(status.message());
  if (ready_) now_.reason.clear();
  if (!first && ready_ == was_ready) return;
  SetServing(now_.serving);
  if (!ready_) {
    logger_->Limited(LogKind::kReadiness, spdlog::level::warn, "{}: {}",
                     now_.serving ? "degraded" : "not ready", now_.reason);
  } else if (!first || slow_) {  // Else the start line is enough.
    logger_->Limited(LogKind::kReadiness, spdlog::level::info, "ready");
  }
  changed_.notify_all();
}

void Readiness::Run() {
  std::unique_lock lock(mutex_);
  do {
    lock.unlock();
    Ask();
    lock.lock();
  } while (!changed_.wait_for(lock, filter_.interval(), [this] { return stopped_; }));
}

}  // namespace ratelimiter
