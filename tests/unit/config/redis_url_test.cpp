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
       {.host = "::1", .port = 1, .user = "me", .password = "secret", .database = 2}},
      {"redis://me@cache", {.host = "cache", .user = "me"}},
      {"rediss://cache", {.host = "cache", .tls = true}},
      {"rediss://me:secret@[::1]:1/2",
       {.host = "::1", .port = 1, .tls = true, .user = "me", .password = "secret", .database = 2}},
      {"unix:///run/redis.sock", {.socket = "/run/redis.sock"}},
      {"unix:///run/redis.sock?db=3", {.socket = "/run/redis.sock", .database = 3}},
      {"unix:///run/a%20b%3Fc.sock", {.socket = "/run/a b?c.sock"}},
      {"unix:///run/a@b/c@d", {.socket = "/run/a@b/c@d"}},
      {"unix://me@/redis", {.socket = "/redis", .user = "me"}},
      {"unix://:secret@/redis", {.socket = "/redis", .password = "secret"}},
      {"unix://me:secret@/run/redis?db=1",
       {.socket = "/run/redis", .user = "me", .password = "secret", .database = 1}},
      {"unix:///" + std::string(106, 'x'), {.socket = "/" + std::string(106, 'x')}},
      {"redis-sentinel://a/mymaster", {.sentinels = {{"a", 26379}}, .master = "mymaster"}},
      {"redis-sentinel://a:1,10.0.0.2,[::1]:3,[::2]/My.master_1-2/4",
       {.sentinels = {{"a", 1}, {"10.0.0.2", 26379}, {"::1", 3}, {"::2", 26379}},
        .master = "My.master_1-2",
        .database = 4}},
      {"redis-sentinel://me:secret@a,b/m",
       {.sentinels = {{"a", 26379}, {"b", 26379}},
        .master = "m",
        .user = "me",
        .password = "secret"}},
      {"redis-cluster://a", {.cluster = {{"a", 6379}}}},
      {"redis-cluster://a:1,10.0.0.2,[::1]:3/",
       {.cluster = {{"a", 1}, {"10.0.0.2", 6379}, {"::1", 3}}}},
      {"redis-cluster://me:secret@a,b/0",
       {.cluster = {{"a", 6379}, {"b", 6379}}, .user = "me", .password = "secret"}}};
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
    EXPECT_EQ(ParseRedisUrl("unix://me:" + written + "@/redis"),
              (RedisUrl{.socket = "/redis", .user = "me", .password = password}))
        << written;
    EXPECT_EQ(
        ParseRedisUrl("redis-sentinel://me:" + written + "@a/m"),
        (RedisUrl{.sentinels = {{"a", 26379}}, .master = "m", .user = "me", .password = password}))
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
                           "rediss://",
                           "redisss://cache",
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
                           "redis://me:@cache",
                           "redis://@cache",
                           "redis://me:secret@",
                           "redis://me:100%@cache",
                           "redis://me:%2@cache",
                           "redis://me:%zz@cache",
                           "redis://me:%-1@cache",
                           "redis://m%e:secret@cache",
                           "redis://a,b",
                           "redis-cluster://",
                           "redis-cluster:///0",
                           "redis-cluster://a,",
                           "redis-cluster://a/1",
                           "redis-cluster://a/0/0",
                           "redis-cluster://a/x",
                           "redis-cluster://a:0",
                           "redis-cluster://me:@a",
                           "unix:",
                           "unix://",
                           "unix:///",
                           "unix:/redis",
                           "unix://redis",
                           "unix://me:secret@redis",
                           "unix://me:@/redis",
                           "unix://@/redis",
                           "unix:///redis?",
                           "unix:///redis?db",
                           "unix:///redis?db=",
                           "unix:///redis?db=x",
                           "unix:///redis?db=1&db=2",
                           "unix:///redis?timeout=1",
                           "unix:///redis%",
                           "unix:///redis%00",
                           "redis-sentinel://",
                           "redis-sentinel://a",
                           "redis-sentinel://a/",
                           "redis-sentinel:///m",
                           "redis-sentinel://,/m",
                           "redis-sentinel://a,/m",
                           "redis-sentinel://,a/m",
                           "redis-sentinel://a:0/m",
                           "redis-sentinel://a:b/m",
                           "redis-sentinel://a b/m",
                           "redis-sentinel://a/m m",
                           "redis-sentinel://a/m/",
                           "redis-sentinel://a/m/x",
                           "redis-sentinel://a/m/0/1",
                           "redis-sentinel://a/m?db=1",
                           "redis-sentinel://me:@a/m"}) {
    EXPECT_EQ(ParseRedisUrl(text), std::nullopt) << '"' << text << '"';
  }
}

TEST(RedisUrlTest, RefusesAPathThatNoSocketCanHave) {
  EXPECT_EQ(ParseRedisUrl("unix:///" + std::string(107, 'x')), std::nullopt);
}

TEST(RedisUrlTest, WhatOthersKnowIsSaidNotToBeSupported) {
  for (const char* text : {"redis-cluster://a,b/1", "redis-cluster://me:a/b@a:7000/15"}) {
    EXPECT_EQ(WhyNotSupported(text), "a Redis Cluster has only database 0") << text;
  }
  for (const char* text : {"rediss-cluster://a,b", "rediss-sentinel://a,b/master"}) {
    EXPECT_EQ(WhyNotSupported(text), "TLS is not supported with sentinels and Clusters") << text;
  }
  for (const char* text : {"", "cache", "redis://cache", "http://cache", "redis-cluster://a,b",
                           "redis-cluster://a:b/0", "redis-cluster://a/b"}) {
    EXPECT_EQ(WhyNotSupported(text), "") << text;
  }
}

}  // namespace
}  // namespace ratelimiter
