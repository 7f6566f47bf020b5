#include "readiness.h"

#include <chrono>
#include <string>
#include <utility>

#include "limiter/limiter.grpc.pb.h"

namespace ratelimiter {
namespace {

constexpr std::chrono::seconds kInterval{1};

void SetServing(grpc::HealthCheckServiceInterface& health, bool serving) {
  health.SetServingStatus("", serving);
  health.SetServingStatus(limiter::RateLimiter::service_full_name(), serving);
}

}  // namespace

Readiness::Readiness(TokenBucketStore& store, grpc::HealthCheckServiceInterface& health,
                     std::shared_ptr<spdlog::logger> logger)
    : store_(store), health_(health), logger_(std::move(logger)) {
  SetServing(health_, false);
  Ask();
  thread_ = std::thread([this] { Run(); });
}

Readiness::~Readiness() {
  StopServing();
  thread_.join();
}

bool Readiness::ready() const {
  const std::lock_guard lock(mutex_);
  return serving_;
}

void Readiness::StopServing() {
  const std::lock_guard lock(mutex_);
  if (stopped_) return;
  stopped_ = true;
  serving_ = false;
  health_.Shutdown();
  stopping_.notify_all();
}

void Readiness::Ask() {
  // The store's own bound is the only one.
  const absl::Status status = store_.Check(Deadline::max());
  const bool first = !std::exchange(asked_, true);
  const bool changed = std::exchange(ready_, status.ok()) != ready_;
  if (!first && !changed) return;

  const std::lock_guard lock(mutex_);
  if (stopped_) return;
  serving_ = ready_;
  SetServing(health_, ready_);
  if (ready_) {
    if (!first) logger_->info("ready");  // At first the start line is enough.
  } else {
    logger_->warn("not ready: {}", std::string(status.message()));
  }
}

void Readiness::Run() {
  std::unique_lock lock(mutex_);
  while (!stopping_.wait_for(lock, kInterval, [this] { return stopped_; })) {
    lock.unlock();
    Ask();
    lock.lock();
  }
}

}  // namespace ratelimiter
