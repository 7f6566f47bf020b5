#include "ratelimiter/config/redis_url.h"

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace ratelimiter {
namespace {

using namespace std::string_literals;

TEST(RedisUrlTest, ReadsEveryForm) {
  const std::vector<std::pair<std::string, RedisUrl>> cases = {
      {"redis://cache", {.host = "cache"}},
      {"redis://cache/", {.host = "cache"}},
      {"redis://cache:6380", {.host = "cache", .port = 6380}},
      {"redis://cache:1", {.host = "cache", .port = 1}},
      {"redis://cache:65535", {.host = "cache", .port = 65535}},
      {"redis://cache/3", {.host = "cache", .database = 3}},
      {"redis://10.0.0.1:6380/3", {.host = "10.0.0.1", .port = 6380, .database = 3}},
      {"redis://[::1]", {.host = "::1"}},
      {"redis://[fe80::1]:6380/3", {.host = "fe80::1", .port = 6380, .database = 3}},
      {"redis://:secret@cache", {.host = "cache", .password = "secret"}},
      {"redis://me:secret@[::1]:1/2",
       {.host = "::1", .port = 1, .user = "me", .password = "secret", .database = 2}}};
  for (const auto& [text, url] : cases) EXPECT_EQ(ParseRedisUrl(text), url) << text;
}

TEST(RedisUrlTest, APasswordMayHoldAnyByte) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"a@b", "a@b"},   {"a:b", "a:b"},        {"a/b?c#d[e]", "a/b?c#d[e]"},
      {"%40%2f", "@/"}, {"%00%FF", "\0\xFF"s}, {"100%25", "100%"}};
  for (const auto& [written, password] : cases) {
    EXPECT_EQ(
        ParseRedisUrl("redis://me:" + written + "@cache:1/2"),
        (RedisUrl{.host = "cache", .port = 1, .user = "me", .password = password, .database = 2}))
        << written;
  }
}

TEST(RedisUrlTest, AUserMayHoldAnyByteEscaped) {
  EXPECT_EQ(ParseRedisUrl("redis://a%3Ab%40c:secret@cache"),
            (RedisUrl{.host = "cache", .user = "a:b@c", .password = "secret"}));
}

TEST(RedisUrlTest, RefusesAnythingElse) {
  for (const char* text : {"",
                           "cache",
                           "cache:6379",
                           "redis:cache",
                           "redis:/cache",
                           "REDIS://cache",
                           "rediss://cache",
                           "http://cache",
                           " redis://cache",
                           "redis://",
                           "redis:///0",
                           "redis://:6379",
                           "redis://cache:",
                           "redis://cache:0",
                           "redis://cache:65536",
                           "redis://cache:-1",
                           "redis://cache:+1",
                           "redis://cache:6379x",
                           "redis://cache:6379 ",
                           "redis://ca che",
                           "redis://cache/x",
                           "redis://cache/-1",
                           "redis://cache/4294967296",
                           "redis://cache/0/1",
                           "redis://cache/0?timeout=1",
                           "redis://cache?db=1",
                           "redis://cache#0",
                           "redis://[::1",
                           "redis://[]",
                           "redis://[::1]x",
                           "redis://[::1]6379",
                           "redis://::1",
                           "redis://::1:6379",
                           "redis://me@cache",
                           "redis://me:@cache",
                           "redis://@cache",
                           "redis://me:secret@",
                           "redis://me:100%@cache",
                           "redis://me:%2@cache",
                           "redis://me:%zz@cache",
                           "redis://me:%-1@cache",
                           "redis://m%e:secret@cache"}) {
    EXPECT_EQ(ParseRedisUrl(text), std::nullopt) << '"' << text << '"';
  }
}

}  // namespace
}  // namespace ratelimiter
