#pragma once

#include <memory>

#include <absl/status/statusor.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/base/log.h"
#include "ratelimiter/config/settings.h"
#include "ratelimiter/limiter/token_bucket_store.h"
#include "ratelimiter/metrics/metrics.h"

namespace ratelimiter {

// Makes the store that the settings name: the only place that knows which stores there are.
// FAILED_PRECONDITION: a file of its TLS settings is not usable. `clock` and `metrics` must
// outlive the store.
absl::StatusOr<std::unique_ptr<TokenBucketStore>> MakeStore(const Settings& settings,
                                                            const Clock& clock, Metrics& metrics,
                                                            const std::shared_ptr<Logger>& logger);

// Logs what a user of this store should know at each start.
void WarnOfStore(const Settings& settings, Logger& logger);

}  // namespace ratelimiter
