#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "settings_support.h"

namespace ratelimiter::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class SettingsChecksTest : public ::testing::Test {
 protected:
  Environment environment_;
};

// The ports of the daemon's servers.
struct Server {
  std::string name;
  std::string flag;
};
const Server kGrpc = {"", "--"};
const Server kMetrics = {"METRICS_", "--metrics-"};
const Server kAdmin = {"ADMIN_", "--admin-"};
const std::vector<std::pair<Server, Server>> kPairs = {
    {kGrpc, kMetrics}, {kGrpc, kAdmin}, {kMetrics, kAdmin}};

SettingsResult ReadPair(const std::pair<Server, Server>& servers, const std::string& port,
                        const std::string& bind, const std::string& other_bind) {
  return Read({servers.first.flag + "port=" + port, servers.first.flag + "bind=" + bind,
               servers.second.flag + "port=" + port, servers.second.flag + "bind=" + other_bind});
}

TEST_F(SettingsChecksTest, TwoServersCannotHaveOnePortAtAddressesThatOverlap) {
  const std::vector<std::pair<std::string, std::string>> overlapping = {
      {"::", "::"},
      {"127.0.0.1", "127.0.0.1"},
      {"::1", "::1"},
      {"::", "127.0.0.1"},
      {"::1", "::"},
      {"0.0.0.0", "127.0.0.1"},
      {"10.0.0.1", "0.0.0.0"},
      {"0.0.0.0", "::"},
      {"::", "0.0.0.0"},
      {"::1", "0:0:0:0:0:0:0:1"},
      {"127.0.0.1", "::ffff:127.0.0.1"},
      {"::ffff:0.0.0.0", "10.0.0.1"}};
  for (const auto& servers : kPairs) {
    for (const auto& [bind, other_bind] : overlapping) {
      const SettingsResult result = ReadPair(servers, "7", bind, other_bind);
      EXPECT_EQ(result.exit_code, 78) << bind << ' ' << other_bind;
      EXPECT_EQ(result.message,
                fmt::format("{}PORT, {}PORT: both are 7, at addresses that overlap ({}BIND {}, "
                            "{}BIND {}); accepted: different ports, or addresses that do not "
                            "overlap\n",
                            servers.first.name, servers.second.name, servers.first.name, bind,
                            servers.second.name, other_bind));
    }
  }
}

TEST_F(SettingsChecksTest, TwoServersMayHaveOnePortAtAddressesThatDiffer) {
  for (const auto& servers : kPairs) {
    EXPECT_TRUE(ReadPair(servers, "7", "127.0.0.1", "127.0.0.2").settings.has_value());
  }
}

TEST_F(SettingsChecksTest, SeveralServersMayHaveAnyFreePort) {
  for (const auto& servers : kPairs) {
    EXPECT_TRUE(ReadPair(servers, "0", "::", "::").settings.has_value());
  }
}

TEST_F(SettingsChecksTest, EveryConflictOfThreePortsIsReported) {
  const std::string message =
      Read({"--port=7", "--metrics-port=7", "--admin-port=7", "--admin-bind=::"}).message;
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 3) << message;
}

TEST_F(SettingsChecksTest, APasswordIsInTheUrlOrInAFile) {
  const SettingsResult both =
      Read({"--redis-url", "redis://me:hunter2@cache", "--redis-password-file", "password"});
  EXPECT_EQ(both.exit_code, 78);
  EXPECT_EQ(
      both.message,
      "REDIS_PASSWORD_FILE: is set, and REDIS_URL has a password; accepted: one of the two\n");
  EXPECT_EQ(Read({"--redis-url", "redis://me@cache", "--redis-password-file", "password"})
                .settings.value_or(Settings{})
                .redis_url,
            (RedisUrl{.host = "cache", .user = "me"}));
}

// As of an ACL with nopass.
TEST_F(SettingsChecksTest, AUserNeedsNoPassword) {
  for (const char* url : {"redis://me@cache", "rediss://me@cache", "unix://me@/run/redis",
                          "redis-sentinel://me@a/m", "redis-cluster://me@a,b"}) {
    const SettingsResult result = Read({"--redis-url", url});
    ASSERT_TRUE(result.settings.has_value()) << result.message;
    EXPECT_EQ(result.settings->redis_url.user, "me");
    EXPECT_EQ(result.settings->redis_url.password, "");
  }
}

TEST_F(SettingsChecksTest, WhatIsForTlsIsRefusedWithoutIt) {
  for (const char* url : {"redis://cache", "unix:///redis", "redis-sentinel://a/m"}) {
    const SettingsResult result = Read({"--redis-url", url, "--redis-tls-key", "client.key"});
    EXPECT_EQ(result.exit_code, 78);
    EXPECT_EQ(result.message,
              "REDIS_TLS_KEY: is set, but REDIS_URL is without TLS; accepted: a rediss:// URL (not "
              "available with sentinels and Clusters), or no REDIS_TLS_…\n");
  }
}

TEST_F(SettingsChecksTest, TlsNeedsItsCertificateAndItsKey) {
  for (const char* half : {"--tls-cert", "--tls-key"}) {
    const SettingsResult result = Read({half, "a"});
    EXPECT_EQ(result.exit_code, 78);
    EXPECT_EQ(result.message,
              "TLS_CERT, TLS_KEY: one is set without the other; accepted: both, or none\n");
  }
  EXPECT_THAT(Read({"--tls-client-ca", "a"}).message,
              StartsWith("TLS_CLIENT_CA: is set without TLS_CERT; accepted: "));
  EXPECT_THAT(Read({"--admin-tls", "on"}).message,
              StartsWith("ADMIN_TLS: is on without TLS_CERT; accepted: "));
  EXPECT_EQ(Read({"--tls-cert", "a", "--tls-key", "b", "--tls-client-ca", "c", "--admin-tls", "on"})
                .settings.value_or(Settings{})
                .tls,
            (TlsFiles{.certificate = "a", .key = "b", .client_ca = "c"}));
}

TEST_F(SettingsChecksTest, TheSentinelsPasswordIsRefusedWithoutThem) {
  const SettingsResult result =
      Read({"--redis-url", "rediss://cache", "--redis-sentinel-password", "hunter2"});
  EXPECT_EQ(result.exit_code, 78);
  EXPECT_EQ(result.message,
            "REDIS_SENTINEL_PASSWORD: is set, but REDIS_URL has no sentinels; accepted: a "
            "redis-sentinel:// URL, or no REDIS_SENTINEL_PASSWORD\n");
}

TEST_F(SettingsChecksTest, WhatIsOfRedisAloneDoesNotConcernMemory) {
  const SettingsResult result =
      Read({"--store", "memory", "--redis-url", "redis://me:hunter2@cache", "--redis-password-file",
            "password", "--redis-tls-key", "client.key", "--redis-sentinel-password", "hunter2"});
  EXPECT_EQ(result.exit_code, 0) << result.message;
}

TEST_F(SettingsChecksTest, ALimitThatCannotBeExactIsToldWithItsSettings) {
  const SettingsResult result = Read({"--capacity", "67108864", "--refill-tokens", "67108864"});
  EXPECT_THAT(result.message, StartsWith("CAPACITY, REFILL_TOKENS, REFILL_INTERVAL: capacity "
                                         "67108864 times refill tokens 67108864 is 2^52 or more"));
  EXPECT_EQ(result.exit_code, 78);
}

TEST_F(SettingsChecksTest, ALimitThatCannotBeExactIsToldBesideOtherBadValues) {
  const SettingsResult result =
      Read({"--capacity", "67108864", "--refill-tokens", "67108864", "--store", "disk"});
  EXPECT_THAT(result.message, AllOf(HasSubstr("STORE: \"disk\""), HasSubstr("2^52 or more")));
}

}  // namespace
}  // namespace ratelimiter::testing
