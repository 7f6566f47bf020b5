#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <spdlog/common.h>

#include "ratelimiter/base/fail_mode.h"
#include "ratelimiter/base/log.h"
#include "ratelimiter/base/user_label.h"
#include "ratelimiter/config/redis_url.h"
#include "ratelimiter/config/server_tls.h"
#include "ratelimiter/limiter/bucket_spec.h"

namespace ratelimiter {

enum class StoreKind { kRedis, kMemory };

// A setting as people may see it.
struct ShownSetting {
  enum class Source : std::uint8_t { kDefault, kEnvironment, kFlag };

  std::string_view name;
  // As it was written; "…" is in place of a secret.
  std::string value;
  std::string_view default_value;
  std::string_view meaning;
  Source source = Source::kDefault;
};

// Every setting of the daemon, valid. settings.cpp has the table of their
// names, defaults, units and meanings, which --help prints.
struct Settings {
  std::string bind;
  std::uint16_t port = 0;
  // Without a certificate there is no TLS.
  TlsFiles tls;
  std::string metrics_bind;
  std::uint16_t metrics_port = 0;
  StoreKind store = StoreKind::kRedis;
  RedisUrl redis_url;
  // Where the password is, if it is not in redis_url. Empty: no file.
  std::string redis_password_file;
  // Of the sentinels of redis_url. Empty: none.
  std::string redis_sentinel_password;
  // Of a redis_url with TLS. Empty: the system's CAs, no certificate of our own, the
  // host's name.
  std::string redis_tls_ca;
  std::string redis_tls_cert;
  std::string redis_tls_key;
  std::string redis_tls_server_name;
  std::chrono::milliseconds redis_timeout{0};
  std::size_t redis_pool_size = 0;
  std::chrono::milliseconds redis_max_connection_age{0};  // 0: unlimited.
  std::chrono::microseconds deny_cache_max_age{0};
  std::size_t deny_cache_size = 0;
  std::string key_prefix;
  // Of limits that do not name their own.
  FailMode fail_mode = FailMode::kError;
  Fraction local_fraction;
  // The one limit's numbers, where there is no limits file.
  BucketSpec spec;
  // Empty: none.
  std::string limits_file;
  bool ratelimit_headers = false;
  std::size_t memory_max_buckets = 0;
  // None: there is no admin server.
  std::optional<std::uint16_t> admin_port;
  std::string admin_bind;
  // Further names that a request's Host may have.
  std::vector<std::string> admin_hosts;
  // Empty: no token is asked for.
  std::string admin_token_file;
  bool admin_tls = false;
  std::size_t metrics_max_users = 0;
  std::size_t metrics_top_users = 0;
  UserLabel metrics_user_label = UserLabel::kPlain;
  std::size_t max_in_flight = 0;
  std::chrono::milliseconds max_connection_age{0};  // 0: connections end for no age.
  std::chrono::milliseconds max_connection_age_grace{0};
  std::size_t max_concurrent_streams = 0;
  std::size_t max_metadata_size = 0;            // In bytes.
  std::chrono::milliseconds keepalive_time{0};  // 0: nobody is pinged.
  std::chrono::milliseconds keepalive_min_time{0};
  std::chrono::milliseconds drain_time{0};
  spdlog::level::level_enum log_level = spdlog::level::info;
  LogFormat log_format = LogFormat::kText;
  // Of the calls, that have a line in the log. None: no call has.
  std::optional<Fraction> access_log;
  // All of these, in the order of --help.
  std::vector<ShownSetting> shown;
};

// Exit codes of the daemon.
inline constexpr int kExitOk = 0;
inline constexpr int kExitRuntime = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitConfig = 78;  // EX_CONFIG of sysexits.h.

// The settings to run with, or why there is nothing to run.
struct SettingsResult {
  std::optional<Settings> settings;
  // Without settings: what to print (on stdout if exit_code is 0, else stderr),
  // and the code to exit with.
  std::string message;
  int exit_code = kExitOk;
};

// Reads the settings from flags, then the environment, then the defaults. All
// values that are not accepted are told at once.
SettingsResult ReadSettings(int argc, const char* const* argv);

}  // namespace ratelimiter
