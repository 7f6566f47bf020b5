#include "status_text.h"

#include <string_view>

#include <fmt/format.h>

#include "ratelimiter/base/duration.h"
#include "ratelimiter/base/listen.h"

namespace ratelimiter {
namespace {

std::string_view GrpcTls(const Settings& settings) {
  if (settings.tls.certificate.empty()) return "";
  return settings.tls.client_ca.empty() ? " over TLS" : " over mTLS";
}

std::string Admin(const Settings& settings, const Ports& ports) {
  if (!ports.admin.has_value()) return "";
  return fmt::format(", admin on {} port {}{}", EffectiveAddress(settings.admin_bind), *ports.admin,
                     settings.admin_tls ? " over TLS" : "");
}

std::string Limits(const Settings& settings, const LimitSet& limits) {
  if (!settings.limits_file.empty()) {
    return fmt::format("{} limits of {}", limits.limits().size(), settings.limits_file);
  }
  const BucketSpec& spec = settings.spec;
  return fmt::format("limit \"default\", {} tokens, {} back every {}", spec.capacity,
                     spec.refill_tokens, FormatDuration(spec.refill_interval));
}

}  // namespace

std::string StartLine(const Settings& settings, const Ports& ports, const TokenBucketStore& store,
                      const LimitSet& limits) {
  return fmt::format("ratelimiterd {}: gRPC on {} port {}{}, metrics on {} port {}{}, store {}, {}",
                     RATELIMITER_VERSION, EffectiveAddress(settings.bind), ports.grpc,
                     GrpcTls(settings), EffectiveAddress(settings.metrics_bind), ports.metrics,
                     Admin(settings, ports), store.Describe(), Limits(settings, limits));
}

std::string StatusLine(const Health& health, const LimitSet& limits, const LimitsReloader* reloader,
                       const ServerTls* tls) {
  const bool limits_rejected = reloader != nullptr && !reloader->state().errors.empty();
  const bool certificate_rejected = tls != nullptr && !tls->in_force();
  return fmt::format("{}{}{}; limits: {}{}{}", health.serving ? "Serving" : "Not serving",
                     health.reason.empty() ? "" : ": ", health.reason, limits.limits().size(),
                     limits_rejected ? " (last reload rejected, previous limits active)" : "",
                     certificate_rejected ? "; new certificate rejected, previous one active" : "");
}

}  // namespace ratelimiter
