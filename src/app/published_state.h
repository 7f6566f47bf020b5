#pragma once

#include "ratelimiter/config/limits_reloader.h"
#include "ratelimiter/config/server_tls.h"
#include "ratelimiter/limiter/limit_set.h"
#include "ratelimiter/metrics/metrics.h"

namespace ratelimiter {

// Publish the state of parts that do not know the metrics. They must live for as long as
// `metrics` is scraped.
void Publish(const ServerTls& tls, Metrics& metrics);
void Publish(const LimitsReloader& reloader, Metrics& metrics);

// Gives each limit its series, at 0.
void ShowLimits(const LimitSet& limits, Metrics& metrics);

}  // namespace ratelimiter
