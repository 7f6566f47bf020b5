#pragma once

#include <cstdint>
#include <memory>

#include <absl/status/status.h>

#include "ratelimiter/base/log.h"
#include "ratelimiter/limiter/fallback.h"
#include "ratelimiter/metrics/metrics.h"

namespace ratelimiter {

// Counts the calls decided by FAIL_MODE, and logs some of them, with their callers' ids.
//
// Thread-safe. `metrics` must outlive it.
class DegradationReport final : public FallbackObserver {
 public:
  DegradationReport(Metrics& metrics, std::shared_ptr<Logger> logger);

  void OnDecided(FailMode mode, const absl::Status& why, const Request& request) override;
  void OnRecovered(std::uint64_t calls) override;

 private:
  Metrics& metrics_;
  const std::shared_ptr<Logger> logger_;
};

}  // namespace ratelimiter
