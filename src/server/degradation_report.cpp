#include "ratelimiter/server/degradation_report.h"

#include <string>
#include <utility>

namespace ratelimiter {
namespace {

DegradedMode Counted(FailMode mode) {
  switch (mode) {
    case FailMode::kOpen:
      return DegradedMode::kOpen;
    case FailMode::kClosed:
      return DegradedMode::kClosed;
    case FailMode::kLocal:
      return DegradedMode::kLocal;
    case FailMode::kError:
      break;
  }
  return DegradedMode::kError;
}

}  // namespace

DegradationReport::DegradationReport(Metrics& metrics, std::shared_ptr<spdlog::logger> logger)
    : metrics_(metrics), logger_(std::move(logger)) {}

void DegradationReport::OnDecided(FailMode mode) { metrics_.CountDegraded(Counted(mode)); }

void DegradationReport::OnFailing(std::uint64_t calls, FailMode mode, const absl::Status& why) {
  logger_->warn("the store failed {} {}, the last of which got FAIL_MODE={}: {}", calls,
                calls == 1 ? "call" : "calls", std::string(NameOf(mode)),
                std::string(why.message()));
}

void DegradationReport::OnRecovered(std::uint64_t calls) {
  logger_->info("the store decides again: it has failed no call for {} s, and {} before that",
                Fallback::kQuiet.count(), calls);
}

}  // namespace ratelimiter
