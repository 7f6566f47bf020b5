#pragma once

#include <cstdint>
#include <memory>

#include <absl/status/status.h>
#include <spdlog/logger.h>

#include "ratelimiter/limiter/fallback.h"
#include "ratelimiter/metrics/metrics.h"

namespace ratelimiter {

// Counts and logs the calls that the store failed; how often is for Fallback to bound.
//
// Thread-safe. The metrics must outlive it.
class DegradationReport final : public FallbackObserver {
 public:
  DegradationReport(Metrics& metrics, std::shared_ptr<spdlog::logger> logger);

  void OnDecided(FailMode mode) override;
  void OnFailing(std::uint64_t calls, FailMode mode, const absl::Status& why) override;
  void OnRecovered(std::uint64_t calls) override;

 private:
  Metrics& metrics_;
  const std::shared_ptr<spdlog::logger> logger_;
};

}  // namespace ratelimiter
