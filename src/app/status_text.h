#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ratelimiter/config/limits_reloader.h"
#include "ratelimiter/config/server_tls.h"
#include "ratelimiter/config/settings.h"
#include "ratelimiter/limiter/limit_set.h"
#include "ratelimiter/limiter/token_bucket_store.h"
#include "ratelimiter/service/readiness.h"

namespace ratelimiter {

struct Ports {
  std::uint16_t grpc = 0;
  std::uint16_t metrics = 0;
  std::optional<std::uint16_t> admin{};
};

// The log line of a daemon that has started: version, ports, store and limits.
std::string StartLine(const Settings& settings, const Ports& ports, const TokenBucketStore& store,
                      const LimitSet& limits);

// The status that systemd shows. `reloader`: nullptr without a limits file. `tls`: nullptr
// without TLS.
std::string StatusLine(const Health& health, const LimitSet& limits, const LimitsReloader* reloader,
                       const ServerTls* tls);

}  // namespace ratelimiter
