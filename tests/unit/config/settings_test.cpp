// Longer than most: it holds a row for each setting.
#include "ratelimiter/config/settings.h"

#include <algorithm>
#include <map>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ratelimiter/base/duration.h"
#include "settings_support.h"

namespace ratelimiter::testing {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

// One setting: its default, a value for the variable and one for the flag, each
// as Shown writes it, what it becomes, and values that are not accepted.
struct Case {
  std::string variable;
  std::string flag;
  std::string by_default;
  std::string from_variable;
  std::string from_flag;
  std::string (*shown)(const Settings&);
  std::vector<std::string> not_accepted;

  friend void PrintTo(const Case& setting, std::ostream* out) { *out << setting.variable; }
};

std::string Shown(const RedisUrl& url) {
  if (!url.socket.empty()) return "unix://" + url.socket;
  const std::string database = url.database == 0 ? "" : fmt::format("/{}", url.database);
  return fmt::format("{}://{}:{}{}", url.tls ? "rediss" : "redis", url.host, url.port, database);
}

const std::vector<Case>& AllSettings() {
  static const std::vector<Case> all = {
      Case{"PORT",
       "--port",
       "50051",
       "0",
       "65535",
       [](const Settings& settings) { return std::to_string(settings.port); },
       {"65536", "-1", "+1", "1.5", "http", " 1", "1 ", "0x10", "99999999999999999999"}},
      Case{"BIND",
       "--bind",
       "::",
       "127.0.0.1",
       "::1",
       [](const Settings& settings) { return settings.bind; },
       {"localhost", "127.0.0", "127.0.0.1:80", "[::1]", "*", "::1%lo"}},
      Case{"TLS_CERT",
       "--tls-cert",
       "",
       "tls.crt",
       "/etc/a b.crt",
       [](const Settings& settings) { return settings.tls.certificate; },
       {}},
      Case{"TLS_KEY",
       "--tls-key",
       "",
       "tls.key",
       "/etc/a b.key",
       [](const Settings& settings) { return settings.tls.key; },
       {}},
      Case{"TLS_CLIENT_CA",
       "--tls-client-ca",
       "",
       "ca.crt",
       "/etc/a b.crt",
       [](const Settings& settings) { return settings.tls.client_ca; },
       {}},
      Case{"METRICS_PORT",
       "--metrics-port",
       "2112",
       "0",
       "65535",
       [](const Settings& settings) { return std::to_string(settings.metrics_port); },
       {"65536", "-1", "http"}},
      Case{"METRICS_BIND",
       "--metrics-bind",
       "::",
       "127.0.0.1",
       "::1",
       [](const Settings& settings) { return settings.metrics_bind; },
       {"localhost", "[::1]"}},
      Case{"METRICS_MAX_USERS",
       "--metrics-max-users",
       "1000",
       "0",
       "1000000",
       [](const Settings& settings) { return std::to_string(settings.metrics_max_users); },
       {"1000001", "-1", "many"}},
      Case{"METRICS_TOP_USERS",
       "--metrics-top-users",
       "20",
       "0",
       "1000",
       [](const Settings& settings) { return std::to_string(settings.metrics_top_users); },
       {"1001", "-1", "all"}},
      Case{"METRICS_USER_LABEL",
       "--metrics-user-label",
       "plain",
       "hash",
       "off",
       [](const Settings& settings) -> std::string {
         if (settings.metrics_user_label == UserLabel::kHash) return "hash";
         return settings.metrics_user_label == UserLabel::kOff ? "off" : "plain";
       },
       {"Plain", "sha256", "on"}},
      Case{"STORE",
       "--store",
       "redis",
       "memory",
       "redis",
       [](const Settings& settings) -> std::string {
         return settings.store == StoreKind::kMemory ? "memory" : "redis";
       },
       {"Redis", "memcached", "redis,memory"}},
      Case{"REDIS_URL",
       "--redis-url",
       "redis://127.0.0.1:6379",
       "redis://cache:1/2",
       "unix:///run/redis.sock",
       [](const Settings& settings) { return Shown(settings.redis_url); },
       {"cache:6379", "rediss://", "redis-cluster://a,b/1", "redis://cache:0", "unix://redis",
        "unix:///" + std::string(107, 'x'), "redis-sentinel://a"}},
      Case{"REDIS_PASSWORD_FILE",
       "--redis-password-file",
       "",
       "password",
       "/run/secrets/a b",
       [](const Settings& settings) { return settings.redis_password_file; },
       {}},
      Case{"REDIS_SENTINEL_PASSWORD",
       "--redis-sentinel-password",
       "",
       "hunter2",
       "p@ss word",
       [](const Settings& settings) { return settings.redis_sentinel_password; },
       {}},
      Case{"REDIS_TLS_CA",
       "--redis-tls-ca",
       "",
       "ca.crt",
       "/etc/a b.crt",
       [](const Settings& settings) { return settings.redis_tls_ca; },
       {}},
      Case{"REDIS_TLS_CERT",
       "--redis-tls-cert",
       "",
       "client.crt",
       "/etc/a b.crt",
       [](const Settings& settings) { return settings.redis_tls_cert; },
       {}},
      Case{"REDIS_TLS_KEY",
       "--redis-tls-key",
       "",
       "client.key",
       "/etc/a b.key",
       [](const Settings& settings) { return settings.redis_tls_key; },
       {}},
      Case{"REDIS_TLS_SERVER_NAME",
       "--redis-tls-server-name",
       "",
       "cache.example",
       "10.0.0.7",
       [](const Settings& settings) { return settings.redis_tls_server_name; },
       {std::string(256, 'x')}},
      Case{"REDIS_TIMEOUT",
       "--redis-timeout",
       "100ms",
       "1ms",
       "1m",
       [](const Settings& settings) { return FormatDuration(settings.redis_timeout); },
       {"0", "999us", "1500us", "61s", "-1s", "100", "soon"}},
      Case{"REDIS_POOL_SIZE",
       "--redis-pool-size",
       "1",
       "2",
       "64",
       [](const Settings& settings) { return std::to_string(settings.redis_pool_size); },
       {"0", "65", "-1"}},
      Case{"REDIS_MAX_CONNECTION_AGE",
       "--redis-max-connection-age",
       "5m",
       "0s",
       "1d",
       [](const Settings& settings) { return FormatDuration(settings.redis_max_connection_age); },
       {"500ms", "25h", "30"}},
      Case{"DENY_CACHE_MAX_AGE",
       "--deny-cache-max-age",
       "100ms",
       "1us",
       "1m",
       [](const Settings& settings) { return FormatDuration(settings.deny_cache_max_age); },
       {"100", "61s", "-1s"}},
      Case{"DENY_CACHE_SIZE",
       "--deny-cache-size",
       "10000",
       "1",
       "10000000",
       [](const Settings& settings) { return std::to_string(settings.deny_cache_size); },
       {"0", "10000001", "-1"}},
      Case{"KEY_PREFIX",
       "--key-prefix",
       "rl",
       "!~",
       std::string(64, 'p'),
       [](const Settings& settings) { return settings.key_prefix; },
       {std::string(65, 'p'), "a b", "{rl", "rl}", "r\nl", "r\x7Fl", "é"}},
      Case{"FAIL_MODE",
       "--fail-mode",
       "error",
       "open",
       "closed",
       [](const Settings& settings) { return std::string(NameOf(settings.fail_mode)); },
       {"Open", "deny", "open,local"}},
      Case{"LOCAL_SHARE",
       "--local-share",
       "1",
       "0.25",
       "0.999999",
       [](const Settings& settings) {
         return fmt::format("{}", settings.local_fraction.millionths / 1e6);
       },
       {"0", "0.", "0.0", "0.0000001", "1.0", "1.5", "-0.5", "+0.5", ".5", "00.5", "1/4", "25%",
        "0.1e1"}},
      Case{"CAPACITY",
       "--capacity",
       "5",
       "1",
       "1000000",
       [](const Settings& settings) { return std::to_string(settings.spec.capacity); },
       {"0", "-1", "5.5", "9223372036854775808"}},
      Case{"REFILL_TOKENS",
       "--refill-tokens",
       "1",
       "7",
       "1000000",
       [](const Settings& settings) { return std::to_string(settings.spec.refill_tokens); },
       {"0", "-1", "9223372036854775808"}},
      Case{"REFILL_INTERVAL",
       "--refill-interval",
       "2s",
       "1ms",
       "366d",
       [](const Settings& settings) { return FormatDuration(settings.spec.refill_interval); },
       {"0", "999us", "367d", "2", "2 s"}},
      Case{"LIMITS_FILE",
       "--limits-file",
       "",
       "limits.yaml",
       "/etc/a b.yaml",
       [](const Settings& settings) { return settings.limits_file; },
       {}},
      Case{"RATELIMIT_HEADERS",
       "--ratelimit-headers",
       "off",
       "on",
       "off",
       [](const Settings& settings) -> std::string {
         return settings.ratelimit_headers ? "on" : "off";
       },
       {"true", "ON", "on,off"}},
      Case{"ADMIN_PORT",
       "--admin-port",
       "off",
       "0",
       "65535",
       [](const Settings& settings) {
         return settings.admin_port.has_value() ? std::to_string(*settings.admin_port) : "off";
       },
       {"65536", "-1", "OFF", "none"}},
      Case{"ADMIN_BIND",
       "--admin-bind",
       "127.0.0.1",
       "::",
       "::1",
       [](const Settings& settings) { return settings.admin_bind; },
       {"localhost", "[::1]"}},
      Case{"ADMIN_HOSTS",
       "--admin-hosts",
       "",
       "admin.example",
       "a,10.0.0.7,b_c-d.e",
       [](const Settings& settings) {
         return fmt::format("{}", fmt::join(settings.admin_hosts, ","));
       },
       {",", "a,", ",a", "a,,b", "a b", "a:80", "http://a", "[::1]", "é"}},
      Case{"ADMIN_TOKEN_FILE",
       "--admin-token-file",
       "",
       "token",
       "/run/secrets/a b",
       [](const Settings& settings) { return settings.admin_token_file; },
       {}},
      Case{"ADMIN_TLS",
       "--admin-tls",
       "off",
       "on",
       "off",
       [](const Settings& settings) -> std::string { return settings.admin_tls ? "on" : "off"; },
       {"true", "ON", "1"}},
      Case{"MEMORY_MAX_BUCKETS",
       "--memory-max-buckets",
       "1000000",
       "1",
       "1000000000",
       [](const Settings& settings) { return std::to_string(settings.memory_max_buckets); },
       {"0", "1000000001"}},
      Case{"MAX_IN_FLIGHT",
       "--max-in-flight",
       "400",
       "1",
       "10000",
       [](const Settings& settings) { return std::to_string(settings.max_in_flight); },
       {"0", "10001"}},
      Case{"MAX_CONNECTION_AGE",
       "--max-connection-age",
       "30m",
       "0s",
       "1d",
       [](const Settings& settings) { return FormatDuration(settings.max_connection_age); },
       {"500ms", "25h", "30"}},
      Case{"MAX_CONNECTION_AGE_GRACE",
       "--max-connection-age-grace",
       "30s",
       "1s",
       "1h",
       [](const Settings& settings) { return FormatDuration(settings.max_connection_age_grace); },
       {"0", "999ms", "61m", "30"}},
      Case{"MAX_CONCURRENT_STREAMS",
       "--max-concurrent-streams",
       "1000",
       "1",
       "100000",
       [](const Settings& settings) { return std::to_string(settings.max_concurrent_streams); },
       {"0", "100001", "many"}},
      Case{"MAX_METADATA_SIZE",
       "--max-metadata-size",
       "8192",
       "1024",
       "1048576",
       [](const Settings& settings) { return std::to_string(settings.max_metadata_size); },
       {"1023", "1048577", "8K"}},
      Case{"KEEPALIVE_TIME",
       "--keepalive-time",
       "1m",
       "0s",
       "1d",
       [](const Settings& settings) { return FormatDuration(settings.keepalive_time); },
       {"999ms", "25h", "60"}},
      Case{"KEEPALIVE_MIN_TIME",
       "--keepalive-min-time",
       "10s",
       "0s",
       "1h",
       [](const Settings& settings) { return FormatDuration(settings.keepalive_min_time); },
       {"61m", "10", "-1s"}},
      Case{"DRAIN_TIME",
       "--drain-time",
       "5s",
       "0s",
       "1h",
       [](const Settings& settings) { return FormatDuration(settings.drain_time); },
       {"5", "500us", "61m"}},
      Case{"LOG_LEVEL",
       "--log-level",
       "info",
       "debug",
       "off",
       [](const Settings& settings) {
         const auto name = spdlog::level::to_string_view(settings.log_level);
         return std::string(name.data(), name.size());
       },
       {"INFO", "warning", "trace"}},
      Case{"LOG_FORMAT",
       "--log-format",
       "text",
       "json",
       "text",
       [](const Settings& settings) -> std::string {
         return settings.log_format == LogFormat::kJson ? "json" : "text";
       },
       {"JSON", "xml"}},
      Case{"ACCESS_LOG",
       "--access-log",
       "0",
       "0.01",
       "1",
       [](const Settings& settings) {
         return settings.access_log.has_value()
                    ? fmt::format("{}", settings.access_log->millionths / 1e6)
                    : "0";
       },
       {"off", "0.", "0.0", "0.0000001", "1.0", "1.5", "-1", "10%"}}};
  return all;
}

class EverySettingTest : public ::testing::TestWithParam<Case> {
 protected:
  // Those of Redis's TLS and of sentinels are accepted beside these alone.
  void SetUp() override {
    if (GetParam().variable.starts_with("REDIS_TLS_")) {
      environment_.Set("REDIS_URL", "rediss://cache");
    } else if (GetParam().variable.starts_with("REDIS_SENTINEL_")) {
      environment_.Set("REDIS_URL", "redis-sentinel://sentinel/master");
    }
  }

  // Gives the setting a value, and those of TLS what they are accepted beside alone.
  void SetVariable() {
    const std::string& variable = GetParam().variable;
    if (variable.starts_with("TLS_") || variable == "ADMIN_TLS") {
      environment_.Set("TLS_CERT", "tls.crt");
      environment_.Set("TLS_KEY", "tls.key");
    }
    environment_.Set(variable, GetParam().from_variable);
  }

  // The setting as it was read.
  std::string Value(const SettingsResult& result) const {
    return result.settings.has_value() ? GetParam().shown(*result.settings) : result.message;
  }

  Environment environment_;
};

INSTANTIATE_TEST_SUITE_P(, EverySettingTest, ::testing::ValuesIn(AllSettings()),
                         [](const auto& setting) { return setting.param.variable; });

TEST_P(EverySettingTest, HasItsDefault) { EXPECT_EQ(Value(Read()), GetParam().by_default); }

TEST_P(EverySettingTest, AVariableGoesBeforeTheDefault) {
  SetVariable();
  EXPECT_EQ(Value(Read()), GetParam().from_variable);
}

TEST_P(EverySettingTest, AFlagGoesBeforeTheVariable) {
  SetVariable();
  EXPECT_EQ(Value(Read({GetParam().flag, GetParam().from_flag})), GetParam().from_flag);
  EXPECT_EQ(Value(Read({GetParam().flag + "=" + GetParam().from_flag})), GetParam().from_flag);
}

TEST_P(EverySettingTest, AnEmptyVariableIsAsNone) {
  environment_.Set(GetParam().variable, "");
  EXPECT_EQ(Value(Read()), GetParam().by_default);
}

TEST_P(EverySettingTest, ABadValueIsToldWithItsSettingAndWhatIsAccepted) {
  for (const std::string& value : GetParam().not_accepted) {
    environment_.Set(GetParam().variable, value);
    const SettingsResult result = Read();
    EXPECT_FALSE(result.settings.has_value()) << value;
    EXPECT_EQ(result.exit_code, 78);
    EXPECT_THAT(result.message,
                AllOf(StartsWith(GetParam().variable + ": \""), HasSubstr(" is not accepted; "),
                      HasSubstr("accepted: "), EndsWith(GetParam().flag + ")\n")));
    EXPECT_EQ(std::count(result.message.begin(), result.message.end(), '\n'), 1);
  }
}

TEST_P(EverySettingTest, AnEmptyFlagIsABadValueUnlessItIsTheDefault) {
  for (const std::vector<std::string>& flags :
       {std::vector{GetParam().flag + "="}, std::vector{GetParam().flag, std::string()}}) {
    const SettingsResult result = Read(flags);
    if (GetParam().by_default.empty()) {
      EXPECT_EQ(Value(result), "");
      continue;
    }
    EXPECT_EQ(result.exit_code, 78);
    EXPECT_THAT(result.message, AllOf(StartsWith(GetParam().variable + ": \"\" is not accepted; "),
                                      EndsWith(GetParam().flag + ")\n")));
  }
}

class SettingsTest : public ::testing::Test {
 protected:
  Environment environment_;
};

TEST_F(SettingsTest, ABadValueIsToldWordForWord) {
  environment_.Set("CAPACITY", "-1");
  EXPECT_EQ(Read().message,
            "CAPACITY: \"-1\" is not accepted; accepted: 1 and more (environment CAPACITY, flag "
            "--capacity)\n");
}

TEST_F(SettingsTest, AllBadValuesAreToldAtOnce) {
  std::vector<Case> settings = AllSettings();
  std::erase_if(settings, [](const Case& setting) { return setting.not_accepted.empty(); });
  for (const Case& setting : settings) {
    environment_.Set(setting.variable, setting.not_accepted.front());
  }
  const SettingsResult result = Read();
  for (const Case& setting : settings) {
    EXPECT_THAT("\n" + result.message, HasSubstr("\n" + setting.variable + ": \""));
  }
  EXPECT_EQ(result.exit_code, 78);
}

TEST_F(SettingsTest, ARedisUrlIsReadWhole) {
  environment_.Set("REDIS_URL", "redis://me:p%40ss@[::1]:6380/3");
  EXPECT_EQ(
      Read().settings.value_or(Settings{}).redis_url,
      (RedisUrl{.host = "::1", .port = 6380, .user = "me", .password = "p@ss", .database = 3}));
}

TEST_F(SettingsTest, AreShownAsTheyWereWritten) {
  environment_.Set("REFILL_INTERVAL", "60s");
  environment_.Set("PORT", "1");
  const Settings settings =
      Read({"--port=7", "--key-prefix", "PORT"}).settings.value_or(Settings{});
  ASSERT_EQ(settings.shown.size(), AllSettings().size());
  std::map<std::string_view, ShownSetting> shown;
  for (const ShownSetting& setting : settings.shown) shown[setting.name] = setting;
  EXPECT_EQ(shown["PORT"].value, "7");
  EXPECT_EQ(shown["PORT"].default_value, "50051");
  EXPECT_EQ(shown["PORT"].source, ShownSetting::Source::kFlag);
  EXPECT_EQ(shown["KEY_PREFIX"].source, ShownSetting::Source::kFlag);
  EXPECT_EQ(shown["REFILL_INTERVAL"].value, "60s");
  EXPECT_EQ(shown["REFILL_INTERVAL"].source, ShownSetting::Source::kEnvironment);
  EXPECT_EQ(shown["CAPACITY"].value, "5");
  EXPECT_EQ(shown["CAPACITY"].source, ShownSetting::Source::kDefault);
  EXPECT_THAT(std::string(shown["CAPACITY"].meaning), HasSubstr("burst"));
}

TEST_F(SettingsTest, TheHelpListsEverySettingWithItsDefault) {
  const SettingsResult result = Read({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_FALSE(result.settings.has_value());
  for (const Case& setting : AllSettings()) {
    EXPECT_THAT(result.message,
                ContainsRegex("  " + setting.flag + "[ =]?\\[?" + setting.by_default +
                              "]? +\\(Env:" + setting.variable + "\\)"));
  }
}

TEST_F(SettingsTest, TheHelpTellsWhatIsNoSettingsOwn) {
  EXPECT_THAT(Read({"--help"}).message,
              AllOf(HasSubstr("An empty environment variable counts as\nunset."),
                    HasSubstr("at every\nLOG_LEVEL except off")));
}

TEST_F(SettingsTest, EverySettingOfTheHelpIsTriedHere) {
  const std::string help = Read({"--help"}).message;
  std::size_t variables = 0;
  for (std::size_t at = help.find("Env:"); at != std::string::npos;
       at = help.find("Env:", at + 1)) {
    ++variables;
  }
  EXPECT_EQ(variables, AllSettings().size());
}

TEST_F(SettingsTest, TheVersionEndsAsAsked) {
  const SettingsResult result = Read({"--version"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.message, MatchesRegex("ratelimiterd [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

TEST_F(SettingsTest, AFlagThatDoesNotExistIsAnErrorOfUsage) {
  const SettingsResult result = Read({"--ports", "1"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.message, HasSubstr("--ports"));
}

TEST_F(SettingsTest, AFlagWithoutItsValueIsAnErrorOfUsage) {
  const SettingsResult result = Read({"--port"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.message, HasSubstr("--port"));
}

}  // namespace
}  // namespace ratelimiter::testing
