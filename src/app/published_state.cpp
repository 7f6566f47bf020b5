#include "published_state.h"

#include <chrono>
#include <cstddef>

namespace ratelimiter {
namespace {

double UnixSeconds(std::chrono::system_clock::time_point time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

}  // namespace

void Publish(const ServerTls& tls, Metrics& metrics) {
  metrics.Publish(Metric::kTlsLastReload, [&tls] { return tls.in_force() ? 1 : 0; });
  metrics.Publish(Metric::kTlsNotBefore,
                  [&tls] { return UnixSeconds(tls.identity()->not_before); });
  metrics.Publish(Metric::kTlsNotAfter, [&tls] { return UnixSeconds(tls.identity()->not_after); });
}

void Publish(const LimitsReloader& reloader, Metrics& metrics) {
  metrics.Publish(Metric::kConfigReloads, [&reloader](std::size_t result) {
    const ReloadState state = reloader.state();
    return static_cast<double>(result == 0 ? state.succeeded : state.failed);
  });
  metrics.Publish(Metric::kConfigLastReload,
                  [&reloader] { return reloader.state().errors.empty() ? 1 : 0; });
  metrics.Publish(Metric::kConfigLoaded,
                  [&reloader] { return UnixSeconds(reloader.state().loaded_at); });
}

void ShowLimits(const LimitSet& limits, Metrics& metrics) {
  for (const Limit& limit : limits.limits()) metrics.decisions().Show(limit.name);
}

}  // namespace ratelimiter
