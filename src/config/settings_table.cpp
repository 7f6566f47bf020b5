#include "settings_table.h"

#include <fmt/format.h>

#include "ratelimiter/base/fail_mode.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

template <typename T>
using Named = std::pair<std::string_view, T>;

constexpr Range kPorts = {0, std::numeric_limits<std::uint16_t>::max()};
constexpr std::string_view kAnAddress = "an IPv4 or IPv6 address";
constexpr std::string_view kAFraction = "1, or 0.000001 to 0.999999 with up to six decimals";

constexpr auto kSwitch = std::to_array<Named<bool>>({{"on", true}, {"off", false}});
constexpr auto kStores =
    std::to_array<Named<StoreKind>>({{"redis", StoreKind::kRedis}, {"memory", StoreKind::kMemory}});
constexpr auto kUserLabels = std::to_array<Named<UserLabel>>(
    {{"plain", UserLabel::kPlain}, {"hash", UserLabel::kHash}, {"off", UserLabel::kOff}});
constexpr auto kFailModes =
    std::to_array<Named<FailMode>>({{NameOf(FailMode::kError), FailMode::kError},
                                    {NameOf(FailMode::kOpen), FailMode::kOpen},
                                    {NameOf(FailMode::kClosed), FailMode::kClosed},
                                    {NameOf(FailMode::kLocal), FailMode::kLocal}});
constexpr auto kLogFormats =
    std::to_array<Named<LogFormat>>({{"text", LogFormat::kText}, {"json", LogFormat::kJson}});
constexpr auto kLogLevels =
    std::to_array<Named<spdlog::level::level_enum>>({{"debug", spdlog::level::debug},
                                                     {"info", spdlog::level::info},
                                                     {"warn", spdlog::level::warn},
                                                     {"error", spdlog::level::err},
                                                     {"off", spdlog::level::off}});

Setting Address(std::string_view name, std::string_view default_value,
                std::string Settings::* member, std::string_view meaning) {
  return Value(name, default_value, std::string(kAnAddress), ReadAddress, member, meaning);
}

Setting WithSecrecy(Secrecy secrecy, Setting setting) {
  setting.secrecy = secrecy;
  return setting;
}

void AppendGrpc(std::vector<Setting>& table) {
  table.push_back(Int("PORT", "50051", kPorts, &Settings::port,
                      "Port of gRPC; 0: any free port, which the start line names"));
  table.push_back(Address("BIND", "::", &Settings::bind,
                          "Address of gRPC; :: is all interfaces, IPv4 and IPv6"));
  table.push_back(File(
      "TLS_CERT", [](Settings& s) -> auto& { return s.tls.certificate; }, "none, no TLS",
      "PEM file of the server's certificate and its intermediate certificates; turns TLS on. "
      "Reloaded, with TLS_KEY and TLS_CLIENT_CA, when a file changes and on SIGHUP"));
  table.push_back(File(
      "TLS_KEY", [](Settings& s) -> auto& { return s.tls.key; }, "none",
      "PEM file of the private key of TLS_CERT, without a passphrase"));
  table.push_back(File(
      "TLS_CLIENT_CA", [](Settings& s) -> auto& { return s.tls.client_ca; },
      "none, clients need no certificate",
      "PEM file of the CAs that must have signed the certificates of gRPC clients (mTLS)"));
}

void AppendMetrics(std::vector<Setting>& table) {
  table.push_back(Int("METRICS_PORT", "2112", kPorts, &Settings::metrics_port,
                      "Port of /metrics; 0: any free port, which the start line names"));
  table.push_back(Address("METRICS_BIND", "::", &Settings::metrics_bind,
                          "Address of /metrics; :: is all interfaces, IPv4 and IPv6"));
  table.push_back(Int("METRICS_MAX_USERS", "1000", {0, 1'000'000}, &Settings::metrics_max_users,
                      "Maximum number of users with their own metric series; the others count as "
                      "__other__"));
  table.push_back(Int("METRICS_TOP_USERS", "20", {0, 1'000}, &Settings::metrics_top_users,
                      "Number of users, among the most active lately, with a gauge of allowed and "
                      "one of denied requests; 0: none"));
  table.push_back(Choice("METRICS_USER_LABEL", "plain", kUserLabels, &Settings::metrics_user_label,
                         "User label of metrics: the id, the first 16 hexadecimal digits of its "
                         "SHA-256, or __all__ for every user"));
}

void AppendStore(std::vector<Setting>& table) {
  table.push_back(Choice("STORE", "redis", kStores, &Settings::store,
                         "Where buckets are kept: in Redis, shared by all instances, or in the "
                         "memory of this process"));
  table.push_back(WithSecrecy(
      Secrecy::kUrl,
      Value("REDIS_URL", "redis://127.0.0.1:6379",
            fmt::format("redis://[user[:password]@]host[:port][/database], the same with "
                        "rediss://, unix://[user[:password]@]/path[?db=database] with a path of "
                        "up to {} bytes, redis-sentinel://[user[:password]@]host[:port],.../"
                        "master[/database], redis-cluster://[user[:password]@]host[:port],...",
                        kMaxSocketPathBytes),
            ReadRedisUrl, &Settings::redis_url,
            "Redis that all instances share; rediss:// is TLS. User, password and path may hold "
            "%XX")));
  table.push_back(File("REDIS_PASSWORD_FILE", &Settings::redis_password_file, "none",
                       "File whose first line is the Redis password; alternative to a password in "
                       "REDIS_URL. Read for every new connection"));
  table.push_back(WithSecrecy(
      Secrecy::kSecret, Value("REDIS_SENTINEL_PASSWORD", "", "any text; empty: none", ReadSecret,
                              &Settings::redis_sentinel_password, "Password of the sentinels")));
  table.push_back(File("REDIS_TLS_CA", &Settings::redis_tls_ca, "the system's CAs",
                       "PEM file of the CAs that are trusted to sign Redis's certificate"));
  table.push_back(File("REDIS_TLS_CERT", &Settings::redis_tls_cert, "none",
                       "PEM file of the client certificate for Redis and its intermediate "
                       "certificates. Read, with its key, for every new connection"));
  table.push_back(File("REDIS_TLS_KEY", &Settings::redis_tls_key, "none",
                       "PEM file of the private key of REDIS_TLS_CERT, without a passphrase"));
  table.push_back(Value(
      "REDIS_TLS_SERVER_NAME", "",
      fmt::format("a name of up to {} bytes; empty: the host in REDIS_URL", kMaxServerNameBytes),
      ReadServerName, &Settings::redis_tls_server_name,
      "Host name or IP address that Redis's certificate must name"));
  table.push_back(Time("REDIS_TIMEOUT", "100ms", {1ms, 1min}, &Settings::redis_timeout,
                       "Maximum time for a call to be sent to Redis, and for the reply to arrive"));
  table.push_back(Int("REDIS_POOL_SIZE", "1", {1, 64}, &Settings::redis_pool_size,
                      "Number of connections to Redis (to each master of a Cluster); all calls "
                      "share them"));
  table.push_back(TimeOrZero("REDIS_MAX_CONNECTION_AGE", "5m", {1s, 24h},
                             &Settings::redis_max_connection_age,
                             "Maximum age of a connection to Redis (±10 %), so that a host name "
                             "that was repointed is followed; 0: unlimited"));
  table.push_back(Time("DENY_CACHE_MAX_AGE", "100ms", {0us, 1min}, &Settings::deny_cache_max_age,
                       "Maximum time a denial is served from cache; 0 disables the cache"));
  table.push_back(Int("DENY_CACHE_SIZE", "10000", {1, 10'000'000}, &Settings::deny_cache_size,
                      "Maximum number of denied buckets cached"));
  table.push_back(Value("KEY_PREFIX", "rl",
                        fmt::format("1 to {} printable ASCII characters, without spaces, {{ and }}",
                                    kMaxKeyPrefixBytes),
                        ReadKeyPrefix, &Settings::key_prefix, "Prefix of every key in Redis"));
}

void AppendLimits(std::vector<Setting>& table) {
  table.push_back(Choice("FAIL_MODE", "error", kFailModes, &Settings::fail_mode,
                         "Result when the store is unavailable: return the error, allow, deny, or "
                         "use this instance's local buckets. A limit may set its own"));
  table.push_back(Value("LOCAL_SHARE", "1", std::string(kAFraction), ReadFraction,
                        &Settings::local_fraction,
                        "Fraction of each limit that the local buckets of FAIL_MODE=local have. "
                        "With 1 / (number of instances), all instances together admit about one "
                        "more limit during an outage"));
  table.push_back(Int(
      "CAPACITY", "5", {.least = 1}, [](Settings& s) -> auto& { return s.spec.capacity; },
      "Capacity of a bucket in tokens: the largest burst"));
  table.push_back(Int(
      "REFILL_TOKENS", "1", {.least = 1}, [](Settings& s) -> auto& { return s.spec.refill_tokens; },
      "Tokens that a bucket gains per REFILL_INTERVAL"));
  table.push_back(Time(
      "REFILL_INTERVAL", "2s", {kMinRefillInterval, kMaxRefillInterval},
      [](Settings& s) -> auto& { return s.spec.refill_interval; },
      "Time in which a bucket gains REFILL_TOKENS"));
  table.push_back(File("LIMITS_FILE", &Settings::limits_file, "none",
                       "YAML file of limits; replaces CAPACITY, REFILL_TOKENS and "
                       "REFILL_INTERVAL. Reloaded when it changes and on SIGHUP"));
  table.push_back(Choice("RATELIMIT_HEADERS", "off", kSwitch, &Settings::ratelimit_headers,
                         "Whether responses carry RateLimit and RateLimit-Policy in their initial "
                         "metadata"));
}

void AppendAdmin(std::vector<Setting>& table) {
  table.push_back(IntOrOff("ADMIN_PORT", "off", kPorts, &Settings::admin_port,
                           "Port of the admin server (HTTP); 0: any free port, which the start "
                           "line names"));
  table.push_back(
      Address("ADMIN_BIND", "127.0.0.1", &Settings::admin_bind, "Address of the admin server"));
  table.push_back(Value("ADMIN_HOSTS", "", "host names, separated by commas; empty: none",
                        ReadHostNames, &Settings::admin_hosts,
                        "Host names that requests to the admin server may use, besides those of "
                        "loopback"));
  table.push_back(File("ADMIN_TOKEN_FILE", &Settings::admin_token_file, "no token",
                       "File whose first line is the token that requests to the admin server need, "
                       "except probes. Read for every request"));
  table.push_back(Choice("ADMIN_TLS", "off", kSwitch, &Settings::admin_tls,
                         "Whether the admin server uses TLS (HTTPS), with TLS_CERT and TLS_KEY"));
}

void AppendCalls(std::vector<Setting>& table) {
  constexpr TimeRange kConnectionTimes = {1s, 24h};
  table.push_back(Int("MEMORY_MAX_BUCKETS", "1000000", {1, 1'000'000'000},
                      &Settings::memory_max_buckets,
                      "Maximum number of buckets of STORE=memory or FAIL_MODE=local; calls that "
                      "would need more fail"));
  table.push_back(Int("MAX_IN_FLIGHT", "400", {1, 10'000}, &Settings::max_in_flight,
                      "Maximum number of calls in progress; further calls are rejected at once, "
                      "with a time to retry after"));
  table.push_back(TimeOrZero("MAX_CONNECTION_AGE", "30m", kConnectionTimes,
                             &Settings::max_connection_age,
                             "Maximum age of a client connection (±10 %); closed gracefully so "
                             "that clients rebalance; 0: unlimited"));
  table.push_back(Time("MAX_CONNECTION_AGE_GRACE", "30s", {1s, 1h},
                       &Settings::max_connection_age_grace,
                       "Time for the calls of such a connection to finish, reflection and health "
                       "streams included"));
  table.push_back(Int("MAX_CONCURRENT_STREAMS", "1000", {1, 100'000},
                      &Settings::max_concurrent_streams,
                      "Maximum number of concurrent calls per connection; the client queues "
                      "further ones"));
  table.push_back(Int("MAX_METADATA_SIZE", "8192", {1'024, 1'048'576}, &Settings::max_metadata_size,
                      "Maximum size of a call's metadata in bytes, with 32 for each entry; larger "
                      "calls fail with RESOURCE_EXHAUSTED without RetryInfo"));
  table.push_back(TimeOrZero("KEEPALIVE_TIME", "1m", kConnectionTimes, &Settings::keepalive_time,
                             "Time after which an idle client is pinged; closed if it does not "
                             "answer within 20s; 0: never"));
  table.push_back(Time("KEEPALIVE_MIN_TIME", "10s", {0s, 1h}, &Settings::keepalive_min_time,
                       "Minimum time between pings from a client; its connection is closed if it "
                       "pings more often"));
  table.push_back(Time("DRAIN_TIME", "5s", {0s, 1h}, &Settings::drain_time,
                       "Time after SIGTERM or SIGINT during which calls are still accepted and "
                       "health says NOT_SERVING; 0: none"));
}

void AppendLog(std::vector<Setting>& table) {
  table.push_back(Choice("LOG_LEVEL", "info", kLogLevels, &Settings::log_level,
                         "Minimum severity of logged messages"));
  table.push_back(Choice("LOG_FORMAT", "text", kLogFormats, &Settings::log_format,
                         "Format of log lines on stderr"));
  table.push_back(Value("ACCESS_LOG", "0", fmt::format("0, {}", kAFraction), ReadOptionalFraction,
                        &Settings::access_log,
                        "Fraction of calls that are logged, at any LOG_LEVEL except off; 0: none"));
}

}  // namespace

std::vector<Setting> SettingsTable() {
  std::vector<Setting> table;
  AppendGrpc(table);
  AppendMetrics(table);
  AppendStore(table);
  AppendLimits(table);
  AppendAdmin(table);
  AppendCalls(table);
  AppendLog(table);
  return table;
}

}  // namespace ratelimiter
