#include "settings_checks.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include <fmt/format.h>

namespace ratelimiter {
namespace {

// One of the daemon's servers, by its settings.
struct Listener {
  std::string_view port_setting;
  std::string_view bind_setting;
  std::uint16_t port;
  std::string_view bind;
};

std::vector<Listener> ListenersOf(const Settings& settings) {
  std::vector<Listener> listeners = {
      {"PORT", "BIND", settings.port, settings.bind},
      {"METRICS_PORT", "METRICS_BIND", settings.metrics_port, settings.metrics_bind}};
  if (settings.admin_port.has_value()) {
    listeners.push_back({"ADMIN_PORT", "ADMIN_BIND", *settings.admin_port, settings.admin_bind});
  }
  return listeners;
}

// An address in the one form that all its spellings share: IPv4 is mapped into IPv6.
std::array<unsigned char, sizeof(in6_addr)> Normalized(std::string_view address) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  std::string text(address);
  if (text.find(':') == std::string::npos) text.insert(0, "::ffff:");
  inet_pton(AF_INET6, text.c_str(), bytes.data());
  return bytes;
}

bool Overlap(std::string_view one, std::string_view other) {
  const auto is_wildcard = [](std::string_view address) {
    return Normalized(address) == Normalized("::") || Normalized(address) == Normalized("0.0.0.0");
  };
  return is_wildcard(one) || is_wildcard(other) || Normalized(one) == Normalized(other);
}

// Port 0 is a different one each time.
std::string CheckPorts(const Settings& settings) {
  std::string conflicts;
  const std::vector<Listener> listeners = ListenersOf(settings);
  for (auto one = listeners.begin(); one != listeners.end(); ++one) {
    for (auto other = one + 1; other != listeners.end(); ++other) {
      if (one->port == 0 || one->port != other->port || !Overlap(one->bind, other->bind)) continue;
      conflicts += fmt::format(
          "{}, {}: both are {}, at addresses that overlap ({} {}, {} {}); accepted: different "
          "ports, or addresses that do not overlap\n",
          one->port_setting, other->port_setting, one->port, one->bind_setting, one->bind,
          other->bind_setting, other->bind);
    }
  }
  return conflicts;
}

std::string_view CheckPasswords(const Settings& settings) {
  const RedisUrl& url = settings.redis_url;
  if (!settings.redis_password_file.empty() && !url.password.empty()) {
    return "REDIS_PASSWORD_FILE: is set, and REDIS_URL has a password; accepted: one of the two\n";
  }
  if (!settings.redis_sentinel_password.empty() && url.sentinels.empty()) {
    return "REDIS_SENTINEL_PASSWORD: is set, but REDIS_URL has no sentinels; accepted: a "
           "redis-sentinel:// URL, or no REDIS_SENTINEL_PASSWORD\n";
  }
  return {};
}

std::string CheckRedisTls(const Settings& settings) {
  if (settings.redis_url.tls) return {};
  const auto all = std::to_array<std::pair<std::string_view, const std::string*>>(
      {{"REDIS_TLS_CA", &settings.redis_tls_ca},
       {"REDIS_TLS_CERT", &settings.redis_tls_cert},
       {"REDIS_TLS_KEY", &settings.redis_tls_key},
       {"REDIS_TLS_SERVER_NAME", &settings.redis_tls_server_name}});
  const auto* const set =
      std::ranges::find_if(all, [](const auto& setting) { return !setting.second->empty(); });
  if (set == all.end()) return {};
  return fmt::format(
      "{}: is set, but REDIS_URL is without TLS; accepted: a rediss:// URL (not available with "
      "sentinels and Clusters), or no REDIS_TLS_…\n",
      set->first);
}

std::string_view CheckServerTls(const Settings& settings) {
  const TlsFiles& tls = settings.tls;
  if (tls.certificate.empty() != tls.key.empty()) {
    return "TLS_CERT, TLS_KEY: one is set without the other; accepted: both, or none\n";
  }
  if (!tls.certificate.empty()) return {};
  if (!tls.client_ca.empty()) {
    return "TLS_CLIENT_CA: is set without TLS_CERT; accepted: TLS_CERT and TLS_KEY too, or no "
           "TLS_CLIENT_CA\n";
  }
  if (settings.admin_tls) {
    return "ADMIN_TLS: is on without TLS_CERT; accepted: TLS_CERT and TLS_KEY too, or off\n";
  }
  return {};
}

}  // namespace

std::string CheckSettings(const Settings& settings) {
  std::string conflicts = CheckPorts(settings);
  conflicts += CheckServerTls(settings);
  if (settings.store == StoreKind::kRedis) {
    conflicts += CheckPasswords(settings);
    conflicts += CheckRedisTls(settings);
  }
  return conflicts;
}

std::string CheckSpec(const BucketSpec& spec) {
  const absl::Status valid = Validate(spec);
  if (valid.ok()) return {};
  return fmt::format("CAPACITY, REFILL_TOKENS, REFILL_INTERVAL: {}\n",
                     std::string(valid.message()));
}

}  // namespace ratelimiter
