#include "ratelimiter/config/settings.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <iterator>
#include <limits>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ratelimiter/base/duration.h"
#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

// Reads a value into the settings; false if it is not accepted.
using Reader = bool (*)(const std::string& value, Settings& settings);

// One setting: an environment variable, and a flag of the same name
// (REDIS_URL, --redis-url).
struct Setting {
  std::string_view name;
  std::string_view default_value;
  std::string_view accepted;
  std::string_view meaning;
  Reader read;
};

template <typename T>
bool ReadNumber(const std::string& value, std::uint64_t least, std::uint64_t most, T& result) {
  std::uint64_t number = 0;
  const char* const end = value.data() + value.size();
  const auto [rest, error] = std::from_chars(value.data(), end, number);
  if (error != std::errc() || rest != end || number < least || number > most) return false;
  result = static_cast<T>(number);
  return true;
}

template <typename Duration>
bool ReadDuration(const std::string& value, std::chrono::microseconds least,
                  std::chrono::microseconds most, Duration& result) {
  const auto duration = ParseDuration(value);
  if (!duration.has_value() || *duration < least || *duration > most) return false;
  result = std::chrono::duration_cast<Duration>(*duration);
  return result == *duration;
}

template <typename T>
struct Choice {
  std::string_view name;
  T value;
};

template <typename T, std::size_t N>
bool ReadChoice(const std::string& value, const std::array<Choice<T>, N>& choices, T& result) {
  const auto choice = std::find_if(choices.begin(), choices.end(),
                                   [&](const auto& candidate) { return candidate.name == value; });
  if (choice == choices.end()) return false;
  result = choice->value;
  return true;
}

constexpr std::array<Choice<StoreKind>, 2> kStores = {
    {{"redis", StoreKind::kRedis}, {"memory", StoreKind::kMemory}}};
constexpr std::array<Choice<LogFormat>, 2> kLogFormats = {
    {{"text", LogFormat::kText}, {"json", LogFormat::kJson}}};
constexpr std::array<Choice<spdlog::level::level_enum>, 5> kLogLevels = {
    {{"debug", spdlog::level::debug},
     {"info", spdlog::level::info},
     {"warn", spdlog::level::warn},
     {"error", spdlog::level::err},
     {"off", spdlog::level::off}}};

constexpr std::array<Choice<UserLabel>, 3> kUserLabels = {
    {{"plain", UserLabel::kPlain}, {"hash", UserLabel::kHash}, {"off", UserLabel::kOff}}};

constexpr std::array<Choice<bool>, 2> kSwitch = {{{"on", true}, {"off", false}}};

constexpr std::uint64_t kMaxPort = std::numeric_limits<std::uint16_t>::max();
constexpr std::uint64_t kMaxNumber = std::numeric_limits<std::int64_t>::max();

bool ReadAddress(const std::string& value, std::string& result) {
  std::array<unsigned char, sizeof(in6_addr)> parsed{};
  result = value;
  return inet_pton(AF_INET, value.c_str(), parsed.data()) == 1 ||
         inet_pton(AF_INET6, value.c_str(), parsed.data()) == 1;
}

// Letters, digits, '.', '-' and '_': names and IPv4 addresses, without a port.
bool ReadHostNames(const std::string& value, std::vector<std::string>& result) {
  std::istringstream names(value);
  for (std::string name; std::getline(names, name, ',');) {
    const bool accepted = !name.empty() && std::ranges::all_of(name, [](unsigned char c) {
      return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_';
    });
    if (!accepted) return false;
    result.push_back(name);
  }
  return !value.ends_with(',');
}

bool ReadRedisUrl(const std::string& value, RedisUrl& result) {
  const auto url = ParseRedisUrl(value);
  if (url.has_value()) result = *url;
  return url.has_value();
}

// Without braces, which would be taken for the hash tag.
bool ReadKeyPrefix(const std::string& value, std::string& result) {
  constexpr std::size_t kMaxBytes = 64;
  result = value;
  return !value.empty() && value.size() <= kMaxBytes && std::ranges::all_of(value, [](char c) {
    return c > ' ' && c < '\x7f' && c != '{' && c != '}';
  });
}

// "1", or "0." and up to six digits, above 0.
bool ReadFraction(const std::string& value, Fraction& result) {
  constexpr std::size_t kMaxDigits = 6;
  if (value == "1") {
    result.millionths = Fraction::kAll;
    return true;
  }
  if (!value.starts_with("0.") || value.size() > 2 + kMaxDigits) return false;
  std::string digits = value.substr(2);
  digits.resize(digits.empty() ? 0 : kMaxDigits, '0');
  return ReadNumber(digits, 1, Fraction::kAll, result.millionths);
}

// In the order in which --help and the README show them.
constexpr Setting kSettings[] = {
    Setting{"PORT", "50051", "0 to 65535", "gRPC port; 0 picks a free one, told in the start line",
            [](const std::string& value, Settings& settings) {
              return ReadNumber(value, 0, kMaxPort, settings.port);
            }},
    Setting{"BIND", "::", "an IPv4 or IPv6 address",
            "where gRPC listens; :: is all interfaces, IPv4 and IPv6",
            [](const std::string& value, Settings& settings) {
              return ReadAddress(value, settings.bind);
            }},
    Setting{"TLS_CERT", "", "a file's path; empty: none, and no TLS",
            "the certificate with which gRPC is served over TLS, in PEM, with those between it and "
            "its CA's; read again, with the next two, when one of them changes and on SIGHUP",
            [](const std::string& value, Settings& settings) {
              settings.tls.certificate = value;
              return true;
            }},
    Setting{"TLS_KEY", "", "a file's path; empty: none",
            "the key to TLS_CERT, in PEM, without a passphrase",
            [](const std::string& value, Settings& settings) {
              settings.tls.key = value;
              return true;
            }},
    Setting{"TLS_CLIENT_CA", "", "a file's path; empty: none, and clients need no certificate",
            "the CAs of which gRPC's clients must have a certificate (mTLS), in PEM",
            [](const std::string& value, Settings& settings) {
              settings.tls.client_ca = value;
              return true;
            }},
    Setting{"METRICS_PORT", "2112", "0 to 65535",
            "port of /metrics; 0 picks a free one, told in the start line",
            [](const std::string& value, Settings& settings) {
              return ReadNumber(value, 0, kMaxPort, settings.metrics_port);
            }},
    Setting{"METRICS_BIND", "::", "an IPv4 or IPv6 address",
            "where /metrics listens; :: is all interfaces, IPv4 and IPv6",
            [](const std::string& value, Settings& settings) {
              return ReadAddress(value, settings.metrics_bind);
            }},
    Setting{"METRICS_MAX_USERS", "1000", "0 to 1000000",
            "users with metric series of their own; 0 counts all users as __other__",
            [](const std::string& value, Settings& settings) {
              return ReadNumber(value, 0, 1'000'000, settings.metrics_max_users);
            }},
    Setting{"METRICS_TOP_USERS", "20", "0 to 1000",
            "users who have a gauge because they sent most lately, by requests allowed and by "
            "requests denied; 0 is none",
            [](const std::string& value, Settings& settings) {
              return ReadNumber(value, 0, 1'000, settings.metrics_top_users);
            }},
    Setting{"METRICS_USER_LABEL", "plain", "plain, hash, off",
            "how metrics call a user: by the id, by the first 16 digits of its SHA-256, or all "
            "users __all__",
            [](const std::string& value, Settings& settings) {
              return ReadChoice(value, kUserLabels, settings.metrics_user_label);
            }},
    Setting{"STORE", "redis", "redis, memory",
            "where buckets are kept; memory is this process alone, not shared",
            [](const std::string& value, Settings& settings) {
              return ReadChoice(value, kStores, settings.store);
            }},
    Setting{"REDIS_URL", "redis://127.0.0.1:6379",
            "redis://[user:password@]host[:port][/database], rediss:// with the same, "
            "unix://[user:password@]/path[?db=database] with a path of 107 bytes at most, "
            "redis-sentinel://[user:password@]host[:port],.../master[/database], "
            "redis-cluster://[user:password@]host[:port],...",
            "the Redis that all instances share; rediss:// is over TLS; %XX in user, password and "
            "path",
            [](const std::string& value, Settings& settings) {
              return ReadRedisUrl(value, settings.redis_url);
            }},
    Setting{
        "REDIS_PASSWORD_FILE", "", "a file's path; empty: none",
        "whose first line is the password, instead of one in REDIS_URL (there user@ may stand); "
        "read at each new connection",
        [](const std::string& value, Settings& settings) {
          settings.redis_password_file = value;
          return true;
        }},
    Setting{"REDIS_SENTINEL_PASSWORD", "", "any; empty: none",
            "the sentinels' own password, if they ask for one",
            [](const std::string& value, Settings& settings) {
              settings.redis_sentinel_password = value;
              return true;
            }},
    Setting{"REDIS_TLS_CA", "", "a file's path; empty: those of the system",
            "the CAs that are trusted to say who Redis is, in PEM",
            [](const std::string& value, Settings& settings) {
              settings.redis_tls_ca = value;
              return true;
            }},
    Setting{"REDIS_TLS_CERT", "", "a file's path; empty: none",
            "the daemon's own certificate, where Redis asks for one, in PEM, with those between it "
            "and its CA's; read, like its key, at each new connection",
            [](const std::string& value, Settings& settings) {
              settings.redis_tls_cert = value;
              return true;
            }},
    Setting{"REDIS_TLS_KEY", "", "a file's path; empty: none",
            "the key to REDIS_TLS_CERT, in PEM, without a passphrase",
            [](const std::string& value, Settings& settings) {
              settings.redis_tls_key = value;
              return true;
            }},
    Setting{"REDIS_TLS_SERVER_NAME", "", "255 bytes at most; empty: the host in REDIS_URL",
            "the name, or IP address, that Redis's certificate must have",
            [](const std::string& value, Settings& settings) {
              settings.redis_tls_server_name = value;
              return value.size() <= 255;  // What SNI can say.
            }},
    Setting{"REDIS_TIMEOUT", "100ms", "1ms to 1m", "how long a call waits for Redis",
            [](const std::string& value, Settings& settings) {
              return ReadDuration(value, 1ms, 1min, settings.redis_timeout);
            }},
    Setting{
        "REDIS_POOL_SIZE", "1", "1 to 64",
        "connections to Redis, or to each master of a Cluster, over which the buckets are spread; "
        "callers share them",
        [](const std::string& value, Settings& settings) {
          return ReadNumber(value, 1, 64, settings.redis_pool_size);
        }},
    Setting{"DENY_CACHE_MAX_AGE", "100ms", "0 to 1m",
            "how long a bucket that refused is known to refuse without asking Redis, at most; 0 "
            "asks always",
            [](const std::string& value, Settings& settings) {
              return ReadDuration(value, 0us, 1min, settings.deny_cache_max_age);
            }},
    Setting{"DENY_CACHE_SIZE", "10000", "1 to 10000000", "buckets that are known to refuse at most",
            [](const std::string& value, Settings& settings) {
              return ReadNumber(value, 1, 10'000'000, settings.deny_cache_size);
            }},
    Setting{"KEY_PREFIX", "rl", "1 to 64 printable ASCII characters but space { }",
            "what every key in Redis begins with",
            [](const std::string& value, Settings& settings) {
              return ReadKeyPrefix(value, settings.key_prefix);
            }},
    Setting{"FAIL_MODE", "error", kFailModeNames,
            "what a call gets that the store failed: its error, allowed, refused, or decided by "
            "buckets of this instance alone; a limit may name its own",
            [](const std::string& value, Settings& settings) {
              const auto mode = ParseFailMode(value);
              settings.fail_mode = mode.value_or(FailMode::kError);
              return mode.has_value();
            }},
    Setting{"LOCAL_SHARE", "1", "1, or 0.000001 to 0.999999, of up to six decimals",
            "the share of each limit that the buckets of FAIL_MODE=local have; 1 divided by the "
            "number of instances admits about the limit once more while the store is away",
            [](const std::string& value, Settings& settings) {
              return ReadFraction(value, settings.local_fraction);
            }},
    Setting{"CAPACITY", "5", "1 and more", "tokens that a bucket holds: the burst",
            [](const std::string& value, Settings& settings) {
              return ReadNumber(value, 1, kMaxNumber, settings.spec.capacity);
            }},
    Setting{"REFILL_TOKENS", "1", "1 and more", "tokens that come back in every REFILL_INTERVAL",
            [](const std::string& value, Settings& settings) {
              return ReadNumber(value, 1, kMaxNumber, settings.spec.refill_tokens);
            }},
    Setting{"REFILL_INTERVAL", "2s", "1ms to 30d", "time in which REFILL_TOKENS come back",
            [](const std::string& value, Settings& settings) {
              return ReadDuration(value, kMinRefillInterval, kMaxRefillInterval,
                                  settings.spec.refill_interval);
            }},
    Setting{"LIMITS_FILE", "", "a file's path; empty: none",
            "limits, in YAML, in place of the one by CAPACITY, REFILL_TOKENS and REFILL_INTERVAL; "
            "read again when it changes and on SIGHUP",
            [](const std::string& value, Settings& settings) {
              settings.limits_file = value;
              return true;
            }},
    Setting{"RATELIMIT_HEADERS", "off", "on, off",
            "whether answers carry RateLimit and RateLimit-Policy as initial metadata",
            [](const std::string& value, Settings& settings) {
              return ReadChoice(value, kSwitch, settings.ratelimit_headers);
            }},
    Setting{"ADMIN_PORT", "off", "0 to 65535, or off",
            "port of the admin server, HTTP; 0 picks a free one, told in the start line",
            [](const std::string& value, Settings& settings) {
              return value == "off" || ReadNumber(value, 0, kMaxPort, settings.admin_port);
            }},
    Setting{"ADMIN_BIND", "127.0.0.1", "an IPv4 or IPv6 address", "where the admin server listens",
            [](const std::string& value, Settings& settings) {
              return ReadAddress(value, settings.admin_bind);
            }},
    Setting{"ADMIN_HOSTS", "", "host names with commas between; empty: none",
            "names, beside those of loopback, by which the admin server may be called",
            [](const std::string& value, Settings& settings) {
              return ReadHostNames(value, settings.admin_hosts);
            }},
    Setting{"ADMIN_TOKEN_FILE", "", "a file's path; empty: none",
            "whose first line is the token that requests to the admin server must bear, but for "
            "the probes; read at each of them",
            [](const std::string& value, Settings& settings) {
              settings.admin_token_file = value;
              return true;
            }},
    Setting{"ADMIN_TLS", "off", "on, off",
            "whether the admin server speaks TLS (HTTPS), by TLS_CERT and TLS_KEY",
            [](const std::string& value, Settings& settings) {
              return ReadChoice(value, kSwitch, settings.admin_tls);
            }},
    Setting{"MEMORY_MAX_BUCKETS", "1000000", "1 to 1000000000",
            "buckets held by STORE=memory, or by FAIL_MODE=local; where all are in use, a new user "
            "gets an error",
            [](const std::string& value, Settings& settings) {
              return ReadNumber(value, 1, 1'000'000'000, settings.memory_max_buckets);
            }},
    Setting{"MAX_IN_FLIGHT", "400", "1 to 10000",
            "calls worked on at once; one more is refused at once and told when to try again",
            [](const std::string& value, Settings& settings) {
              return ReadNumber(value, 1, 10'000, settings.max_in_flight);
            }},
    Setting{"MAX_CONNECTION_AGE", "30m", "1s to 24h, or 0",
            "after which a client's connection is replaced, give or take a tenth, no call lost: so "
            "that those behind a balancer spread over new instances; 0 is never",
            [](const std::string& value, Settings& settings) {
              return ReadDuration(value, 0s, 0s, settings.max_connection_age) ||
                     ReadDuration(value, 1s, 24h, settings.max_connection_age);
            }},
    Setting{"MAX_CONNECTION_AGE_GRACE", "30s", "1s to 1h",
            "how long calls of a connection that is being replaced may take, streams of reflection "
            "and health included, before they are cut off",
            [](const std::string& value, Settings& settings) {
              return ReadDuration(value, 1s, 1h, settings.max_connection_age_grace);
            }},
    Setting{"MAX_CONCURRENT_STREAMS", "1000", "1 to 100000",
            "calls of one connection at once; more wait on the client's side",
            [](const std::string& value, Settings& settings) {
              return ReadNumber(value, 1, 100'000, settings.max_concurrent_streams);
            }},
    Setting{"KEEPALIVE_TIME", "1m", "1s to 24h, or 0",
            "after which a silent client is pinged; one that does not answer within 20s is closed; "
            "0 is never",
            [](const std::string& value, Settings& settings) {
              return ReadDuration(value, 0s, 0s, settings.keepalive_time) ||
                     ReadDuration(value, 1s, 24h, settings.keepalive_time);
            }},
    Setting{"KEEPALIVE_MIN_TIME", "10s", "0 to 1h",
            "least time between a client's own pings; the connection of one that pings more often "
            "is closed",
            [](const std::string& value, Settings& settings) {
              return ReadDuration(value, 0s, 1h, settings.keepalive_min_time);
            }},
    Setting{"DRAIN_TIME", "5s", "0 to 1h",
            "after SIGTERM or SIGINT, how long calls are still accepted while health says "
            "NOT_SERVING; 0 is not at all",
            [](const std::string& value, Settings& settings) {
              return ReadDuration(value, 0ms, 1h, settings.drain_time);
            }},
    Setting{"LOG_LEVEL", "info", "debug, info, warn, error, off",
            "least severe messages that are logged",
            [](const std::string& value, Settings& settings) {
              return ReadChoice(value, kLogLevels, settings.log_level);
            }},
    Setting{"LOG_FORMAT", "text", "text, json", "how log lines on stderr are written",
            [](const std::string& value, Settings& settings) {
              return ReadChoice(value, kLogFormats, settings.log_format);
            }},
    Setting{"ACCESS_LOG", "0", "0, 1, or 0.000001 to 0.999999, of up to six decimals",
            "the share of calls that have a line in the log, whatever LOG_LEVEL says, unless it is "
            "off; 0 is none",
            [](const std::string& value, Settings& settings) {
              if (value == "0") return true;
              settings.access_log.emplace();
              return ReadFraction(value, *settings.access_log);
            }},
};

// REDIS_URL -> --redis-url
std::string FlagName(std::string_view name) {
  std::string flag = "--";
  for (const char c : name) {
    flag.push_back(c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  }
  return flag;
}

// Whether it is a number of the one limit that there is without a limits file.
bool IsOfOneLimit(const Setting& setting) {
  return setting.name == "CAPACITY" || setting.name == "REFILL_TOKENS" ||
         setting.name == "REFILL_INTERVAL";
}

constexpr std::string_view kHidden = "…";

// What of an accepted value may be shown: all but passwords.
std::string WithoutSecrets(const Setting& setting, std::string_view value) {
  if (setting.name == "REDIS_SENTINEL_PASSWORD") return std::string(value.empty() ? "" : kHidden);
  constexpr auto kNone = std::string_view::npos;
  constexpr std::string_view kScheme = "://";
  const std::size_t begin = value.find(kScheme);
  if (setting.name != "REDIS_URL" || begin == kNone) return std::string(value);

  // As ParseRedisUrl finds them: the path of a socket may hold an '@', too.
  const std::string_view rest = value.substr(begin + kScheme.size());
  const bool of_socket = value.starts_with("unix://");
  const std::size_t at =
      of_socket && rest.starts_with('/') ? kNone : rest.rfind(of_socket ? "@/" : "@");
  const std::size_t colon = rest.find(':');
  if (at == kNone || colon > at) return std::string(value);
  return fmt::format("{}{}{}", value.substr(0, value.size() - rest.size() + colon + 1), kHidden,
                     rest.substr(at));
}

// What of a rejected value may be shown. A URL may hold a password: before '@', or where
// '@' is missing, after a ':' that no port follows; or in a query, as other clients have it.
std::string Shown(const Setting& setting, std::string_view value) {
  constexpr auto kNone = std::string_view::npos;
  if (setting.name != "REDIS_URL") return Printable(value);

  const std::size_t query = value.find('?');
  if (query != kNone) return Shown(setting, value.substr(0, query)).append("?").append(kHidden);
  const std::size_t at = value.rfind('@');
  if (at != kNone) return std::string(kHidden) + Printable(value.substr(at));
  const std::size_t scheme = value.find("://");
  const std::size_t colon = value.find(':', scheme == kNone ? 0 : scheme + 3);
  if (colon == kNone || value.find_first_not_of("0123456789/", colon + 1) == kNone) {
    return Printable(value);
  }
  return Printable(value.substr(0, colon + 1)).append(kHidden);
}

std::string Rejection(const Setting& setting, const std::string& value) {
  const std::string_view why = setting.name == "REDIS_URL" ? WhyNotSupported(value) : "";
  return fmt::format("{}: \"{}\" is not accepted; {}{}accepted: {} (environment {}, flag {})\n",
                     setting.name, Shown(setting, value), why, why.empty() ? "" : "; ",
                     setting.accepted, setting.name, FlagName(setting.name));
}

// Of what belongs to no setting only a flag's name is shown: a value may be a
// secret that strayed.
std::string UnknownArgument(std::string_view argument) {
  if (!argument.starts_with('-')) return "an argument stands behind no flag; --help lists them\n";
  const std::string_view name = argument.substr(0, argument.find('='));
  return fmt::format("there is no flag {}; --help lists them\n", Printable(name));
}

constexpr const char* kDescription =
    "Decides, for every request of every user, whether it is allowed, by a token bucket.\n"
    "Serves gRPC (limiter.RateLimiter) on PORT and Prometheus metrics on METRICS_PORT.";

constexpr const char* kFooter =
    "Flags go before environment variables, and those before defaults. Durations are a whole\n"
    "number with a unit: us, ms, s, m, h, d. An empty environment variable counts as unset.\n"
    "The start line is logged whatever LOG_LEVEL says, unless it is off; why a start failed is\n"
    "always told. Exit codes: 0 ended as asked, 1 could not run, 2 a flag that does not exist,\n"
    "78 a value that is not accepted.";

// The arguments, last first, as CLI11 wants them. "--port=" becomes "--port" and an
// empty argument, for CLI11 would say of the first that its value is missing.
std::vector<std::string> ArgumentsInReverse(int argc, const char* const* argv) {
  std::vector<std::string> arguments;
  for (const char* const* argument = argv + 1; argument < argv + argc; ++argument) {
    const bool empty_value = std::ranges::any_of(kSettings, [&](const Setting& setting) {
      return FlagName(setting.name) + "=" == *argument;
    });
    arguments.emplace_back(*argument);
    if (empty_value) {
      arguments.back().pop_back();
      arguments.emplace_back();
    }
  }
  std::ranges::reverse(arguments);
  return arguments;
}

// Where the value came from that CLI11 has for an option.
ShownSetting::Source SourceOf(const CLI::Option& option, const CLI::App& app) {
  if (option.count() == 0) return ShownSetting::Source::kDefault;
  const std::vector<CLI::Option*>& flags = app.parse_order();
  return std::ranges::find(flags, &option) == flags.end() ? ShownSetting::Source::kEnvironment
                                                          : ShownSetting::Source::kFlag;
}

// Why the two servers cannot have their ports; empty: they can.
std::string PortConflict(const Settings& settings) {
  const auto is_wildcard = [](const std::string& address) {
    return address == "::" || address == "0.0.0.0";
  };
  if (settings.port == 0 || settings.port != settings.metrics_port) return {};
  if (settings.bind != settings.metrics_bind && !is_wildcard(settings.bind) &&
      !is_wildcard(settings.metrics_bind)) {
    return {};
  }
  return fmt::format(
      "PORT, METRICS_PORT: both are {}, at addresses that overlap (BIND {}, METRICS_BIND {}); "
      "accepted: two ports, or addresses that do not overlap\n",
      settings.port, settings.bind, settings.metrics_bind);
}

// Why there is no telling who we are at Redis; empty: there is.
std::string_view PasswordConflict(const Settings& settings) {
  const RedisUrl& url = settings.redis_url;
  const bool in_file = !settings.redis_password_file.empty();
  if (in_file && !url.password.empty()) {
    return "REDIS_PASSWORD_FILE: is set beside a password in REDIS_URL; accepted: one of the two\n";
  }
  if (!in_file && !url.user.empty() && url.password.empty()) {
    return "REDIS_URL: has a user without a password; accepted: user:password@ or "
           ":password@ there, or REDIS_PASSWORD_FILE\n";
  }
  if (!settings.redis_sentinel_password.empty() && url.sentinels.empty()) {
    return "REDIS_SENTINEL_PASSWORD: is set beside a REDIS_URL without sentinels; accepted: "
           "redis-sentinel:// there, or no REDIS_SENTINEL_PASSWORD\n";
  }
  return {};
}

// What is set for TLS though there is none; empty: nothing.
std::string TlsConflict(const Settings& settings) {
  if (settings.redis_url.tls) return {};
  const std::array<std::pair<std::string_view, const std::string&>, 4> all = {
      {{"REDIS_TLS_CA", settings.redis_tls_ca},
       {"REDIS_TLS_CERT", settings.redis_tls_cert},
       {"REDIS_TLS_KEY", settings.redis_tls_key},
       {"REDIS_TLS_SERVER_NAME", settings.redis_tls_server_name}}};
  const auto* const set =
      std::ranges::find_if(all, [](const auto& setting) { return !setting.second.empty(); });
  if (set == all.end()) return {};
  return fmt::format(
      "{}: is set beside a REDIS_URL without TLS; accepted: rediss:// there, which sentinels and "
      "Clusters do not have, or no REDIS_TLS_…\n",
      set->first);
}

// Why there is no TLS as it is asked for; empty: there is.
std::string_view ServerTlsConflict(const Settings& settings) {
  const TlsFiles& tls = settings.tls;
  if (tls.certificate.empty() != tls.key.empty()) {
    return "TLS_CERT, TLS_KEY: one is set without the other; accepted: both, or none\n";
  }
  if (!tls.certificate.empty()) return {};
  if (!tls.client_ca.empty()) {
    return "TLS_CLIENT_CA: is set without TLS_CERT; accepted: TLS_CERT and TLS_KEY beside it, or "
           "no TLS_CLIENT_CA\n";
  }
  if (settings.admin_tls) {
    return "ADMIN_TLS: is on without TLS_CERT; accepted: TLS_CERT and TLS_KEY beside it, or off\n";
  }
  return {};
}

}  // namespace

SettingsResult ReadSettings(int argc, const char* const* argv) {
  CLI::App app(kDescription, "ratelimiterd");
  app.set_version_flag("--version", "ratelimiterd " RATELIMITER_VERSION);
  app.footer(kFooter);
  app.allow_extras();

  std::vector<std::string> values(std::size(kSettings));
  std::vector<const CLI::Option*> options;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Setting& setting = kSettings[i];
    values[i] = setting.default_value;
    options.push_back(
        app.add_option(FlagName(setting.name), values[i],
                       fmt::format("{}. Accepted: {}", setting.meaning, setting.accepted))
            ->envname(std::string(setting.name))
            ->type_name("")
            ->default_str(std::string(setting.default_value)));
  }
  try {
    app.parse(ArgumentsInReverse(argc, argv));
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    const int code = app.exit(error, out, out);
    return {.settings = std::nullopt,
            .message = out.str(),
            .exit_code = code == 0 ? kExitOk : kExitUsage};
  }
  std::string unknown;
  for (const std::string& argument : app.remaining()) unknown += UnknownArgument(argument);
  if (!unknown.empty()) {
    return {.settings = std::nullopt, .message = unknown, .exit_code = kExitUsage};
  }

  Settings settings;
  std::string rejections;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!kSettings[i].read(values[i], settings)) rejections += Rejection(kSettings[i], values[i]);
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!IsOfOneLimit(kSettings[i]) || options[i]->count() == 0) continue;
    if (settings.limits_file.empty()) continue;
    rejections += fmt::format(
        "{}: is set beside LIMITS_FILE, which takes its place; accepted: one of the two\n",
        kSettings[i].name);
  }
  // Between values that are accepted by themselves.
  if (rejections.empty()) {
    rejections.append(PortConflict(settings)).append(ServerTlsConflict(settings));
    if (settings.store == StoreKind::kRedis) {
      rejections.append(PasswordConflict(settings)).append(TlsConflict(settings));
    }
  }
  const BucketSpec& spec = settings.spec;
  // A number that was not accepted is still zero, and told already.
  if (spec.capacity > 0 && spec.refill_tokens > 0 && spec.refill_interval > 0us) {
    if (const absl::Status valid = Validate(spec); !valid.ok()) {
      rejections += fmt::format("CAPACITY, REFILL_TOKENS, REFILL_INTERVAL: {}\n",
                                std::string(valid.message()));
    }
  }
  if (!rejections.empty()) {
    return {.settings = std::nullopt, .message = rejections, .exit_code = kExitConfig};
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    settings.shown.push_back({.name = kSettings[i].name,
                              .value = WithoutSecrets(kSettings[i], values[i]),
                              .default_value = kSettings[i].default_value,
                              .meaning = kSettings[i].meaning,
                              .source = SourceOf(*options[i], app)});
  }
  return {.settings = std::move(settings), .message = {}, .exit_code = kExitOk};
}

}  // namespace ratelimiter
