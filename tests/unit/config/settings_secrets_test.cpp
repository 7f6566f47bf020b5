#include <map>
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

class SettingsSecretsTest : public ::testing::Test {
 protected:
  Environment environment_;
};

TEST_F(SettingsSecretsTest, NoSecretIsToldOfABadRedisUrl) {
  for (const char* url :
       {"redis://me:hunter2@cache:0", "redis://:hunter2@", "rediss://:hunter2@cache:0",
        "redis-cluster://me:hunter2@a,b/1", "unix://me:hunter2@redis", "unix://me:hunter2",
        "redis-sentinel://me:hunter2@a", "redis-sentinel://me:hunter2/m", "me:hunter2@cache",
        "redis://me:@hunter2@cache:x", "redis://me:hunter2/@cache/x", "redis://:hunter2",
        "redis://me:hunter2%40cache", "redis://me:hunter2:6379", "me:hunter2"}) {
    EXPECT_THAT(Read({"--redis-url", url}).message,
                AllOf(StartsWith("REDIS_URL: "), Not(HasSubstr("hunter2"))))
        << url;
  }
}

TEST_F(SettingsSecretsTest, WhatIsNoSecretIsToldOfABadRedisUrl) {
  const std::map<std::string, std::string> told = {{"cache:6379", "cache:6379"},
                                                   {"rediss://cache:0", "rediss://cache:0"},
                                                   {"redis://cache:0/1", "redis://cache:0/1"},
                                                   {"redis://me:hunter2@cache:0", "…@cache:0"},
                                                   {"redis://me:hunter2", "redis://me:…"}};
  for (const auto& [url, shown] : told) {
    EXPECT_THAT(Read({"--redis-url", url}).message,
                StartsWith("REDIS_URL: \"" + shown + "\" is not accepted"));
  }
}

TEST_F(SettingsSecretsTest, AFormThatIsNotSupportedIsToldAsSuch) {
  EXPECT_THAT(
      Read({"--redis-url", "redis-cluster://a,b/1"}).message,
      StartsWith("REDIS_URL: \"redis-cluster://a,b/1\" is not accepted; a Redis Cluster has "
                 "only database 0; accepted: redis://"));
}

TEST_F(SettingsSecretsTest, NoSecretIsInTheHelp) {
  environment_.Set("REDIS_URL", "redis://me:hunter2@cache");
  environment_.Set("REDIS_SENTINEL_PASSWORD", "hunter2");
  EXPECT_THAT(Read({"--help"}).message, Not(HasSubstr("hunter2")));
}

TEST_F(SettingsSecretsTest, AreShownWithoutSecrets) {
  const std::map<std::string, std::string> urls = {
      {"redis://cache:6379/1", "redis://cache:6379/1"},
      {"redis://[::1]:6379", "redis://[::1]:6379"},
      {"redis://me:hunter2@cache", "redis://me:…@cache"},
      {"redis://:hunter2@[::1]:6379/3", "redis://:…@[::1]:6379/3"},
      {"redis://me:hunter2@hunter2:hunter2@cache", "redis://me:…@cache"},
      {"rediss://me:hunter2%40@cache", "rediss://me:…@cache"},
      {"unix://me:hunter2@/run/redis@1.sock?db=2", "unix://me:…@/run/redis@1.sock?db=2"},
      {"unix://me:hunter2@/hunter2@/run/redis", "unix://me:…@/run/redis"},
      {"unix:///run/a:b@/redis", "unix:///run/a:b@/redis"},
      {"redis-sentinel://me:hunter2@a:1,b:2/m", "redis-sentinel://me:…@a:1,b:2/m"},
      {"redis-cluster://me:hunter2@a:1,b:2", "redis-cluster://me:…@a:1,b:2"}};
  for (const auto& [url, shown] : urls) {
    const SettingsResult result = Read({"--redis-url", url});
    ASSERT_TRUE(result.settings.has_value()) << url << ": " << result.message;
    for (const ShownSetting& setting : result.settings->shown) {
      if (setting.name == "REDIS_URL") {
        EXPECT_EQ(setting.value, shown);
      }
      EXPECT_THAT(setting.value, Not(HasSubstr("hunter2")));
    }
  }
}

TEST_F(SettingsSecretsTest, ARejectedUrlIsShownWithoutItsPassword) {
  const std::map<std::string, std::string> urls = {
      {"unix:///tmp/x.sock?db=1&password=hunter2", "unix:///tmp/x.sock?…"},
      {"unix://u:x@/tmp/x.sock?db=1&password=hunter2", "…@/tmp/x.sock?…"},
      {"redis://cache/x?password=hunter2", "redis://cache/x?…"},
      {"redis://me:hunter?2@cache/x", "redis://me:…?…"},
      {"redis://me:hunter2", "redis://me:…"},
      {"redis://me:hunter2@cache/x", "…@cache/x"}};
  for (const auto& [url, shown] : urls) {
    const std::string message = Read({"--redis-url", url}).message;
    EXPECT_THAT(message, StartsWith("REDIS_URL: \"" + shown + "\" is not accepted"));
    EXPECT_THAT(message.substr(0, message.find("accepted: ")), Not(HasSubstr("hunter")));
  }
}

// Every setting with such a name, so that new ones are covered.
TEST_F(SettingsSecretsTest, APasswordIsNeverShown) {
  for (const Setting& setting : SettingsTable()) {
    if (!setting.name.ends_with("PASSWORD")) continue;
    for (const std::string& value : {std::string("hunter2"), std::string()}) {
      environment_.Set(std::string(setting.name), value);
      const SettingsResult result = Read({"--redis-url", "redis-sentinel://a/m"});
      ASSERT_TRUE(result.settings.has_value()) << result.message;
      for (const ShownSetting& shown : result.settings->shown) {
        if (shown.name == setting.name) {
          EXPECT_EQ(shown.value, value.empty() ? "" : "…");
        }
      }
    }
  }
}

TEST_F(SettingsSecretsTest, ABadValueCannotForgeALine) {
  environment_.Set("STORE", "disk\n\x1B[31mforged\xFF");
  EXPECT_THAT(
      Read().message,
      StartsWith("STORE: \"disk\uFFFD\uFFFD[31mforged\uFFFD\" is not accepted; it contains a "
                 "line break at character 5; accepted: "));
}

TEST_F(SettingsSecretsTest, ALongBadValueIsCut) {
  environment_.Set("STORE", std::string(100'000, 'x'));
  EXPECT_LT(Read().message.size(), 400U);
}

TEST_F(SettingsSecretsTest, LineBreaksAtTheEndOfAnyValueAreIgnored) {
  for (const Setting& setting : SettingsTable()) {
    Environment environment;
    const std::string name(setting.name);
    for (const char* const end : {"\n", "\r\n", "\n\n"}) {
      environment.Set(name, std::string(setting.default_value) + end);
      const SettingsResult result = Read();
      ASSERT_TRUE(result.settings.has_value()) << result.message;
      for (const ShownSetting& shown : result.settings->shown) {
        if (shown.name == name) {
          EXPECT_EQ(shown.value, setting.default_value);
        }
      }
    }
  }
}

// As of a Kubernetes Secret that was made from a file.
TEST_F(SettingsSecretsTest, APasswordIsReadWithoutTheLineBreakAtItsEnd) {
  environment_.Set("REDIS_URL", "redis-sentinel://me:hunter2@a/m\n");
  environment_.Set("REDIS_SENTINEL_PASSWORD", "hunter3\n");
  const Settings settings = Read().settings.value_or(Settings{});
  EXPECT_EQ(settings.redis_url.master, "m");
  EXPECT_EQ(settings.redis_sentinel_password, "hunter3");
}

TEST_F(SettingsSecretsTest, InvisibleCharactersAreNamed) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"50051\u00A0", "it ends with a no-break space (U+00A0)"},
      {"\uFEFF50051", "it begins with a byte order mark (U+FEFF)"},
      {"50\u200B051", "it contains a zero-width space (U+200B) at character 3"},
      {"50051 ", "it ends with a space"},
      {"50\n051", "it contains a line break at character 3"}};
  for (const auto& [value, reason] : cases) {
    environment_.Set("PORT", value);
    EXPECT_THAT(Read().message,
                AllOf(StartsWith("PORT: \""),
                      HasSubstr("\" is not accepted; " + reason + "; accepted: 0 to 65535 (")));
  }
}

TEST_F(SettingsSecretsTest, InvisibleCharactersOfAUrlAreNamedAndNoSecret) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\uFEFFredis://:hunter2@cache", "it begins with a byte order mark (U+FEFF)"},
      {"redis://:hunter2\n@cache", "it contains a line break at character 17"},
      {"redis://:\uFEFFhunter2@cache", "it contains a byte order mark (U+FEFF) at character 10"},
      {"redis://:hunter2@cache\u00A0", "it ends with a no-break space (U+00A0)"},
      {"redis://:hunter2@ca\u00ADche", "it contains a soft hyphen (U+00AD) at character 20"},
      {"redis://:hunter2@cache ", "it ends with a space"}};
  for (const auto& [value, reason] : cases) {
    environment_.Set("REDIS_URL", value);
    EXPECT_THAT(Read().message,
                AllOf(StartsWith("REDIS_URL: \""), HasSubstr(reason), Not(HasSubstr("hunter2"))));
  }
}

TEST_F(SettingsSecretsTest, APasswordWithAByteOrderMarkIsRejected) {
  environment_.Set("REDIS_SENTINEL_PASSWORD", "\uFEFFhunter2");
  const SettingsResult result = Read({"--redis-url", "redis-sentinel://a/m"});
  EXPECT_EQ(result.exit_code, 78);
  EXPECT_THAT(result.message,
              AllOf(StartsWith("REDIS_SENTINEL_PASSWORD: \"…\" is not accepted; it begins with a "
                               "byte order mark (U+FEFF); "),
                    Not(HasSubstr("hunter2"))));
}

}  // namespace
}  // namespace ratelimiter::testing
