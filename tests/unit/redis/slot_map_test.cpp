#include "redis/slot_map.h"

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hiredis/hiredis.h>

#include "ratelimiter/redis/redis_reply.h"
#include "support/status.h"

namespace ratelimiter::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using enum absl::StatusCode;

const HostPort kAsked = {"10.0.0.9", 7000};

// What a server replies who says `text`.
RedisReply Reply(std::string_view text) {
  const std::unique_ptr<redisReader, void (*)(redisReader*)> reader(redisReaderCreate(),
                                                                    redisReaderFree);
  RedisReply reply;
  reply.ReadFrom(*reader);
  void* complete = nullptr;
  redisReaderFeed(reader.get(), text.data(), text.size());
  EXPECT_EQ(redisReaderGetReply(reader.get(), &complete), REDIS_OK);
  EXPECT_NE(complete, nullptr) << text;
  return reply;
}

TEST(SlotMapTest, ASlotIsOfTheWholeKey) {
  // The specification's own vector, 0x31C3, and what CLUSTER KEYSLOT says.
  EXPECT_EQ(SlotOf("123456789"), 0x31C3 % kSlots);
  EXPECT_EQ(SlotOf(""), 0);
  EXPECT_EQ(SlotOf("user"), 5474);
  EXPECT_EQ(SlotOf("foo"), 12182);
}

TEST(SlotMapTest, ASlotIsOfTheHashTagIfThereIsOne) {
  const std::uint16_t user = SlotOf("user");
  for (const char* key : {"{user}", "rl:1:a:{user}", "{user}:/x/{y}", "a{user}{b}", "a{user}}b"}) {
    EXPECT_EQ(SlotOf(key), user) << key;
  }
  EXPECT_EQ(SlotOf("a{{user}}"), SlotOf("{user"));
  // No tag: it is empty, or does not end.
  for (const char* key : {"a{}{user}", "a{user", "}a{"}) {
    EXPECT_NE(SlotOf(key), user) << key;
  }
  EXPECT_NE(SlotOf("{}"), 0);
}

TEST(SlotMapTest, ReadsWhichMasterHasWhichSlots) {
  const RedisReply reply = Reply(
      "*3\r\n"
      // With an id, as Redis 7 has it with further facts, and replicas.
      "*4\r\n:0\r\n:5460\r\n"
      "*4\r\n$8\r\n10.0.0.1\r\n:7001\r\n$2\r\nid\r\n*2\r\n$8\r\nhostname\r\n$1\r\nh\r\n"
      "*3\r\n$8\r\n10.0.0.2\r\n:7002\r\n$2\r\nid\r\n"
      // Without.
      "*3\r\n:5461\r\n:5461\r\n*2\r\n$3\r\n::1\r\n:7003\r\n"
      // Of a node that does not tell its address.
      "*3\r\n:5462\r\n:16383\r\n*3\r\n$-1\r\n:7004\r\n$2\r\nid\r\n");
  const auto ranges = ReadSlots(reply, kAsked);
  ASSERT_THAT(ranges, Succeeds());
  EXPECT_THAT(*ranges, ElementsAre(SlotRange{0, 5460, {"10.0.0.1", 7001}},
                                   SlotRange{5461, 5461, {"::1", 7003}},
                                   SlotRange{5462, 16383, {"10.0.0.9", 7004}}));
}

TEST(SlotMapTest, AClusterMayHaveNoSlots) {
  const auto ranges = ReadSlots(Reply("*0\r\n"), kAsked);
  ASSERT_THAT(ranges, Succeeds());
  EXPECT_THAT(*ranges, ElementsAre());
}

TEST(SlotMapTest, WhatIsNoClustersAnswerIsAnError) {
  EXPECT_THAT(ReadSlots(Reply("-ERR This instance has cluster support disabled\r\n"), kAsked),
              FailsWith(kUnavailable, HasSubstr("cluster support disabled")));
  for (const char* text :
       {"+OK\r\n", ":1\r\n", "$-1\r\n", "*-1\r\n", "*1\r\n:1\r\n", "*1\r\n*0\r\n",
        "*1\r\n*2\r\n:0\r\n:1\r\n", "*1\r\n*3\r\n:0\r\n:1\r\n:2\r\n",
        "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\na\r\n:1\r\n",
        "*1\r\n*3\r\n:-1\r\n:0\r\n*2\r\n$1\r\na\r\n:1\r\n",
        "*1\r\n*3\r\n:2\r\n:1\r\n*2\r\n$1\r\na\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\na\r\n:0\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\na\r\n:65536\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*1\r\n$1\r\na\r\n"}) {
    EXPECT_THAT(ReadSlots(Reply(text), kAsked), FailsWith(kUnavailable, HasSubstr("CLUSTER SLOTS")))
        << text;
  }
}

TEST(SlotMapTest, ReadsWhereACallIsSentOnTo) {
  using enum Redirection::Kind;
  const std::vector<std::pair<std::string_view, Redirection>> cases = {
      {"MOVED 5474 10.0.0.1:7001", {kMoved, {"10.0.0.1", 7001}}},
      {"ASK 5474 cache:7001", {kAsk, {"cache", 7001}}},
      {"MOVED 5474 ::1:7001", {kMoved, {"::1", 7001}}},
      {"MOVED 5474 :7001", {kMoved, {"10.0.0.9", 7001}}},
      {"ASK 5474 ?:7001", {kAsk, {"10.0.0.9", 7001}}},
      {"TRYAGAIN Multiple keys request during rehashing of slot", {kTryAgain, {}}},
      {"ERR Script attempted to access a non local key in a cluster node", {kTryAgain, {}}}};
  for (const auto& [error, redirection] : cases) {
    EXPECT_EQ(ReadRedirection(error, kAsked), redirection) << error;
  }
  for (const char* error : {"MOVED ", "MOVED 5474", "MOVED 5474 a", "ASK 5474 a:", "ASK 1 a:0",
                            "ASK 1 a:x", "ASK 1 a:65536"}) {
    EXPECT_EQ(ReadRedirection(error, kAsked), std::nullopt) << error;
  }
}

}  // namespace
}  // namespace ratelimiter::testing
