#include "redis/sentinel_resolver.h"

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "redis/endpoint_resolver.h"
#include "support/eventually.h"
#include "support/status.h"
#include "unit/redis/fake_redis.h"
#include "unit/redis/redis_test.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

using enum absl::StatusCode;

std::string Announcing(std::uint16_t port) {
  return FormatCommand({"127.0.0.1", std::to_string(port)});
}

// A sentinel that answers as it is told, and counts who asked.
class FakeSentinel {
 public:
  explicit FakeSentinel(std::string answer) : answer_(std::move(answer)) {}

  void Say(std::string answer) {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(answer);
  }
  std::vector<std::string> questions() const {
    const std::lock_guard lock(mutex_);
    return questions_;
  }
  HostPort address() const { return {"127.0.0.1", server_.port()}; }

 private:
  void Serve(const Socket& connection) {
    std::string question = connection.Read();
    std::string answer;
    {
      const std::lock_guard lock(mutex_);
      questions_.push_back(std::move(question));
      answer = answer_;
    }
    connection.Write(answer);
    connection.AwaitEnd();
  }

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  std::string answer_;
  std::vector<std::string> questions_;

  const FakeRedis server_{[this](const Socket& connection) { Serve(connection); }};  // Last.
};

RedisServer Among(std::vector<HostPort> sentinels) {
  return {.sentinels = std::move(sentinels), .master = "mymaster"};
}

// Asks when it is asked, and not by itself.
SentinelResolver MakeResolver(RedisServer server, std::chrono::milliseconds timeout = kLong) {
  return {std::move(server), timeout, 1h};
}

TEST(SentinelResolverTest, AsksForTheMasterByItsName) {
  const FakeSentinel sentinel(Announcing(7));
  auto resolver = MakeResolver(Among({sentinel.address()}));
  const auto found = resolver.Find(In(kLong));
  ASSERT_THAT(found, Succeeds());
  EXPECT_THAT(found->addresses, ElementsAre("127.0.0.1"));
  EXPECT_EQ(found->port, 7);
  EXPECT_EQ(found->source,
            fmt::format("127.0.0.1:7, as sentinel {} says", sentinel.address().Text()));
  EXPECT_EQ(sentinel.questions().back(),
            FormatCommand({"SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"}));
}

TEST(SentinelResolverTest, AnAnnouncedNameIsResolved) {
  const FakeSentinel sentinel(FormatCommand({"localhost", "7"}));
  auto resolver = MakeResolver(Among({sentinel.address()}));
  EXPECT_THAT(resolver.Find(In(kLong))->addresses, ::testing::Contains(AnyOf("127.0.0.1", "::1")));
}

TEST(SentinelResolverTest, AsksAnewWhoeverAsksIt) {
  FakeSentinel sentinel(Announcing(7));
  auto resolver = MakeResolver(Among({sentinel.address()}));
  EXPECT_EQ(resolver.Find(In(kLong))->port, 7);
  sentinel.Say(Announcing(8));
  EXPECT_EQ(resolver.Find(In(kLong))->port, 8);
}

TEST(SentinelResolverTest, TheEpochGoesUpWithEachMaster) {
  FakeSentinel sentinel(Announcing(7));
  auto resolver = MakeResolver(Among({sentinel.address()}));
  const std::uint64_t first = resolver.Find(In(kLong))->epoch;
  EXPECT_EQ(resolver.Find(In(kLong))->epoch, first);
  EXPECT_EQ(resolver.epoch(), first);
  sentinel.Say(Announcing(8));
  EXPECT_EQ(resolver.Find(In(kLong))->epoch, first + 1);
  EXPECT_EQ(resolver.epoch(), first + 1);
  // Of a sentinel that knows nothing nothing follows.
  sentinel.Say("*-1\r\n");
  EXPECT_FALSE(resolver.Find(In(kLong)).ok());
  EXPECT_EQ(resolver.epoch(), first + 1);
}

TEST(SentinelResolverTest, LearnsByItselfOfAnotherMaster) {
  FakeSentinel sentinel(Announcing(7));
  SentinelResolver resolver(Among({sentinel.address()}), kLong, 1ms);
  const std::uint64_t first = resolver.Find(In(kLong))->epoch;
  sentinel.Say(Announcing(8));
  EXPECT_TRUE(Eventually([&] { return resolver.epoch() == first + 1; }));
}

TEST(SentinelResolverTest, TheOneThatAnsweredIsAskedFirst) {
  FakeSentinel first("*-1\r\n");
  const FakeSentinel second(Announcing(7));
  auto resolver = MakeResolver(Among({first.address(), second.address()}));
  ASSERT_THAT(resolver.Find(In(kLong)), Succeeds());
  const std::size_t asked = first.questions().size();
  for (int i = 0; i < 3; ++i) EXPECT_THAT(resolver.Find(In(kLong)), Succeeds());
  EXPECT_EQ(first.questions().size(), asked);
}

TEST(SentinelResolverTest, SentinelsThatAreGoneOrSilentLeaveTimeForTheNext) {
  const Socket gone = Socket::Reserve("127.0.0.1");
  const TcpServer silent(StaySilent);
  const FakeRedis silent_when_asked(StaySilent);
  const FakeSentinel last(Announcing(7));
  auto resolver = MakeResolver(Among({{"127.0.0.1", gone.port()},
                                      {"127.0.0.1", silent.port()},
                                      {"127.0.0.1", silent_when_asked.port()},
                                      last.address()}),
                               1s);
  // On a busy machine the last one's share may not be enough at once.
  absl::StatusOr<Endpoint> found;
  Eventually([&] { return (found = resolver.Find(In(kLong))).ok(); });
  EXPECT_THAT(found, Succeeds());
}

TEST(SentinelResolverTest, WhatEachSentinelSaidIsTold) {
  const Socket gone = Socket::Reserve("127.0.0.1");
  const FakeRedis silent(StaySilent);
  const FakeSentinel ignorant("*-1\r\n");
  auto resolver = MakeResolver(
      Among({{"127.0.0.1", gone.port()}, ignorant.address(), {"127.0.0.1", silent.port()}}), 300ms);
  const auto said =
      FailsWith(kUnavailable,
                fmt::format("no sentinel tells where the master is; 127.0.0.1:{}: Connection "
                            "refused; {}: knows no master \"mymaster\": the name in REDIS_URL is "
                            "wrong; 127.0.0.1:{}: no answer in time",
                            gone.port(), ignorant.address().Text(), silent.port()));
  // On a busy machine one that answers may be too late at first.
  absl::StatusOr<Endpoint> found;
  Eventually([&] { return ::testing::Matches(said)(found = resolver.Find(In(kLong))); });
  EXPECT_THAT(found, said);
}

TEST(SentinelResolverTest, AnAnswerThatIsNoneIsToldAsSuch) {
  for (const std::string& answer :
       {std::string("+OK\r\n"), std::string(":7\r\n"), std::string("$1\r\n7\r\n"),
        std::string("*2\r\n:1\r\n:7\r\n"), std::string("*1\r\n$1\r\na\r\n"),
        std::string("*2\r\n*-1\r\n*-1\r\n"), FormatCommand({"a", "7", "8"}),
        FormatCommand({"a", "b"}), FormatCommand({"a", "0"}), FormatCommand({"a", "65536"}),
        FormatCommand({"a", "7x"}), FormatCommand({"a", ""}), FormatCommand({"", "7"})}) {
    const FakeSentinel sentinel(answer);
    auto resolver = MakeResolver(Among({sentinel.address()}));
    EXPECT_THAT(resolver.Find(In(kLong)),
                FailsWith(kUnavailable, EndsWith("its answer is not a sentinel's")))
        << answer;
  }
}

TEST(SentinelResolverTest, AnErrorIsToldAsTheSentinelSaysIt) {
  const FakeSentinel sentinel("-ERR unknown command 'SENTINEL'\x1B\r\n");
  auto resolver = MakeResolver(Among({sentinel.address()}));
  EXPECT_THAT(resolver.Find(In(kLong)),
              FailsWith(kUnavailable, EndsWith(": ERR unknown command 'SENTINEL'\uFFFD")));
}

TEST(SentinelResolverTest, AHostWithoutAnAddressIsToldAsSuch) {
  auto resolver = MakeResolver(Among({{std::string(64, 'x'), 1}}));
  EXPECT_THAT(resolver.Find(In(kLong)), FailsWith(kUnavailable, HasSubstr("cannot resolve \"xxx")));
}

TEST(SentinelResolverTest, WaitsUntilTheDeadlineAndNoLonger) {
  auto silent = std::make_unique<FakeRedis>(StaySilent);
  auto resolver = MakeResolver(Among({{"127.0.0.1", silent->port()}}));
  const auto elapsed = Elapsed([&] {
    EXPECT_THAT(resolver.Find(In(kShort)),
                FailsWith(kDeadlineExceeded, "the sentinels did not answer in time"));
  });
  EXPECT_GE(elapsed, kShort);
  EXPECT_LT(elapsed, kShort + kMargin);
  silent.reset();  // Else the finder's end would wait for its answer.
}

class SentinelPasswordTest : public RedisTest {
 protected:
  void TearDown() override { server().Run({"CONFIG", "SET", "requirepass", ""}); }

  static RedisServer With(const std::string& password) {
    RedisServer redis = Among({{"127.0.0.1", server().address().port}});
    redis.password = "redis's own";
    redis.sentinel_password = password;
    return redis;
  }
};

TEST_F(SentinelPasswordTest, IsTheSentinelsOwn) {
  server().Run({"CONFIG", "SET", "requirepass", "right"});
  // Which here is no sentinel, and says so to whoever it lets in.
  auto right = MakeResolver(With("right"));
  EXPECT_THAT(right.Find(In(kLong)), FailsWith(kUnavailable, HasSubstr("unknown command")));
  for (const char* password : {"", "hunter2"}) {
    auto wrong = MakeResolver(With(password));
    EXPECT_THAT(wrong.Find(In(kLong)),
                FailsWith(kUnavailable,
                          AllOf(EndsWith("refuses us: REDIS_SENTINEL_PASSWORD is not its password"),
                                StartsWith("no sentinel tells"), Not(HasSubstr("hunter2")))));
  }
}

}  // namespace
}  // namespace ratelimiter::testing
