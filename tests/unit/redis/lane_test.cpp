#include "redis/lane.h"

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/redis/redis_token_bucket.h"
#include "ratelimiter/resilience/breaker.h"
#include "redis/connection_pool.h"
#include "redis/dns_resolver.h"
#include "redis/endpoint_resolver.h"
#include "redis/script_invocation.h"
#include "support/decide.h"
#include "support/eventually.h"
#include "support/status.h"
#include "support/threads.h"
#include "support/waiting_thread.h"
#include "unit/redis/fake_redis.h"
#include "unit/redis/redis_test.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

using enum absl::StatusCode;

const NamedSpec kLimit = {"default", 5, 1, 24h};
const NamedSpec kOtherLimit = {"other", 5, 1, 24h};

// What one caller asks of one bucket each, as the store would: of the usual limit,
// and for users whose names begin with "other" of kOtherLimit.
class Errand {
 public:
  explicit Errand(const std::vector<std::string>& users, std::uint64_t cost = 1,
                  const NamedSpec& usual = kLimit)
      : decisions_(users.size()) {
    for (const std::string& user : users) bucket_keys_.push_back(BucketKeyOf(user));
    for (const std::string& bucket_key : bucket_keys_) {
      const NamedSpec& limit = bucket_key.starts_with("{other") ? kOtherLimit : usual;
      charges_.push_back(
          {.limit = limit.name, .bucket_key = bucket_key, .spec = limit.spec(), .cost = cost});
    }
    for (std::size_t i = 0; i < users.size(); ++i) {
      transactions_.push_back({.charges = {&charges_[i], 1}, .decisions = {&decisions_[i], 1}});
    }
    for (Transaction& transaction : transactions_) {
      calls_.calls.push_back(ScriptCall::Of(transaction));
    }
    calls_.Write("rl:1:");
  }

  // Has a lane, or a pool of them, run it.
  void Run(auto& backend, Deadline deadline, Purpose purpose = Purpose::kCall) {
    backend.Run(calls_.calls, deadline, purpose);
  }

  absl::StatusOr<Decision> Answer(std::size_t at = 0) const {
    if (!transactions_[at].status.ok()) return transactions_[at].status;
    return decisions_[at];
  }

 private:
  std::vector<std::string> bucket_keys_;
  std::vector<Charge> charges_;
  std::vector<Decision> decisions_;
  std::vector<Transaction> transactions_;
  ScriptCallBuilder calls_;
};

absl::StatusOr<Decision> Take(auto& backend, const std::string& user, std::uint64_t cost = 1,
                              Deadline deadline = Deadline::max()) {
  Errand errand({user}, cost);
  errand.Run(backend, deadline);
  return errand.Answer();
}

// A caller on a thread of its own.
class Caller {
 public:
  Caller(Lane& lane, const std::vector<std::string>& users, Deadline deadline)
      : errand_(users), thread_([this, &lane, deadline] {
          errand_.Run(lane, deadline);
          ended_ = std::chrono::steady_clock::now();
          has_ended_ = true;
        }) {
    // Its time may be over before it was seen asleep.
    EXPECT_TRUE(Eventually([&] {
      return (thread_.IsAsleep() && !has_ended_) || std::chrono::steady_clock::now() > deadline;
    }));
  }

  // Waits for its end.
  const Errand& Ended() const {
    EXPECT_TRUE(Eventually([&] { return has_ended_.load(); }));
    return errand_;
  }
  absl::StatusOr<Decision> Answer() const { return Ended().Answer(); }
  std::chrono::steady_clock::time_point ended() const {
    Ended();
    return ended_;
  }
  bool has_ended() const { return has_ended_; }

 private:
  Errand errand_;
  std::chrono::steady_clock::time_point ended_;  // Before has_ended_.
  std::atomic<bool> has_ended_ = false;
  WaitingThread thread_;
};

MATCHER_P(Leaves, tokens, "") {
  *result_listener << arg.status();
  return arg.ok() && arg->allowed && arg->remaining == static_cast<std::uint64_t>(tokens);
}

MATCHER(IsUnavailable, "") {
  return ::testing::ExplainMatchResult(FailsWith(kUnavailable, StartsWith("Redis at 127.0.0.1:")),
                                       arg, result_listener);
}

const auto kDeadlinePassed =
    FailsWith(kDeadlineExceeded, "the call's deadline passed before Redis was asked");

// A server that moves about on this machine.
class MovingResolver final : public EndpointResolver {
 public:
  // `tells`: whether the epoch changes with each move, as sentinels' does.
  explicit MovingResolver(bool tells = true) : tells_(tells) {}

  absl::StatusOr<Endpoint> Find(Deadline /*deadline*/) override {
    return Endpoint{
        .addresses = {"127.0.0.1"}, .port = port_, .source = "there, as I say", .epoch = epoch_};
  }
  std::uint64_t epoch() const override { return epoch_; }

  void Move(std::uint16_t port) {
    port_ = port;
    if (tells_) ++epoch_;
  }

 private:
  const bool tells_;
  std::uint16_t port_ = 0;
  std::uint64_t epoch_ = 0;
};

class LaneTest : public RedisTest {
 protected:
  std::unique_ptr<Lane> MakeLane(std::chrono::milliseconds timeout = kLong) {
    return std::make_unique<Lane>(address_, timeout, script_, resolver_, breaker_, metrics_);
  }

  // A lane whose connection is open, to a Redis that knows the script.
  std::unique_ptr<Lane> MakeWarmLane(std::chrono::milliseconds timeout = kLong) {
    auto lane = MakeLane(timeout);
    EXPECT_THAT(Take(*lane, "warm"), Succeeds());
    server().Run({"CONFIG", "RESETSTAT"});
    observed_before_ = ObservedLatencies(metrics_);
    return lane;
  }

  std::uint64_t RoundTrips() const { return ObservedLatencies(metrics_) - observed_before_; }

  // Tokens that a user has.
  static int Tokens(const std::string& user) {
    const std::string tokens =
        Text(server().Run({"HGET", "rl:1:default:{" + user + "}", "tokens"}));
    return tokens.empty() ? static_cast<int>(kLimit.capacity) : std::stoi(tokens);
  }

  static void Stop() { server().process().Stop(); }
  static void Continue() { server().process().Signal(SIGCONT); }

  const RedisServer address_ = server().address();
  const Script script_ = TokenBucketScript();
  DnsResolver resolver_{"127.0.0.1"};
  SteadyClock clock_;
  Breaker breaker_{clock_, 1};
  Metrics metrics_{0, "test"};
  std::uint64_t observed_before_ = 0;
};

TEST_F(LaneTest, OpensNothingBeforeItIsNeeded) {
  const auto lane = MakeLane();
  EXPECT_EQ(Connections(), 0);
}

TEST_F(LaneTest, UsesOneConnectionAgainAndAgain) {
  const auto lane = MakeLane();
  for (int left = 4; left >= 0; --left) EXPECT_THAT(Take(*lane, "user"), Leaves(left));
  EXPECT_EQ(Connections(), 1);
}

TEST_F(LaneTest, WhoComesDuringARoundTripSharesTheNext) {
  const auto lane = MakeWarmLane();
  Stop();
  const Caller leader(*lane, {"leader"}, Deadline::max());
  const Caller a(*lane, {"a"}, Deadline::max());
  const Caller b(*lane, {"b"}, Deadline::max());
  const Caller a_again(*lane, {"a"}, Deadline::max());
  const Caller several(*lane, {"a", "c", "b", "a"}, Deadline::max());
  Continue();
  EXPECT_THAT(leader.Answer(), Leaves(4));
  EXPECT_THAT(a.Answer(), Leaves(4));
  EXPECT_THAT(a_again.Answer(), Leaves(3));
  EXPECT_THAT(b.Answer(), Leaves(4));
  EXPECT_THAT(several.Ended().Answer(0), Leaves(2));
  EXPECT_THAT(several.Ended().Answer(1), Leaves(4));
  EXPECT_THAT(several.Ended().Answer(2), Leaves(3));
  EXPECT_THAT(several.Ended().Answer(3), Leaves(1));
  EXPECT_EQ(RoundTrips(), 2U);
  EXPECT_EQ(Runs("evalsha"), 2);
  EXPECT_EQ(Connections(), 0);
}

TEST_F(LaneTest, ARoundTripThatHasEnoughLeavesTheRestToTheNext) {
  const auto lane = MakeWarmLane();
  Stop();
  const Caller leader(*lane, {"leader"}, Deadline::max());
  const Caller many(*lane, std::vector<std::string>(200, "a"), Deadline::max());
  const Caller next(*lane, {"b"}, Deadline::max());
  const Caller another(*lane, {"c"}, Deadline::max());
  Continue();
  EXPECT_THAT(next.Answer(), Leaves(4));
  EXPECT_THAT(another.Answer(), Leaves(4));
  EXPECT_THAT(many.Ended().Answer(0), Leaves(4));
  EXPECT_EQ(many.Ended().Answer(199)->allowed, false);
  EXPECT_EQ(RoundTrips(), 3U);
  EXPECT_EQ(Runs("evalsha"), 3);
}

TEST_F(LaneTest, WhoseDeadlineEndsWhileItWaitsIsToldThenAndPaysNothing) {
  const auto lane = MakeWarmLane();
  Stop();
  const Caller leader(*lane, {"leader"}, Deadline::max());
  const Deadline deadline = In(4 * kShort);
  const Caller impatient(*lane, {"impatient"}, deadline);
  const Caller patient(*lane, {"patient"}, Deadline::max());
  // Redis has answered nobody yet.
  EXPECT_THAT(impatient.Answer(), kDeadlinePassed);
  EXPECT_GE(impatient.ended(), deadline);
  EXPECT_FALSE(leader.has_ended());
  EXPECT_FALSE(patient.has_ended());
  Continue();
  EXPECT_THAT(leader.Answer(), Leaves(4));
  EXPECT_THAT(patient.Answer(), Leaves(4));
  EXPECT_EQ(Tokens("impatient"), 5);
  EXPECT_EQ(Tokens("patient"), 4);
  EXPECT_EQ(Runs("evalsha"), 2);
  EXPECT_THAT(Take(*lane, "impatient"), Leaves(4));
}

TEST_F(LaneTest, AShortDeadlineCostsNobodyElseAnything) {
  constexpr std::size_t kNormal = 64;
  constexpr std::size_t kImpatient = 2;
  constexpr int kCalls = 50;
  const auto lane = MakeWarmLane(1min);  // Whatever else the machine does.
  std::atomic<std::size_t> normal = kNormal;
  std::atomic<int> errors = 0;
  std::atomic<int> unexpected = 0;
  OnThreads(kNormal + kImpatient, [&](std::size_t thread) {
    const std::string user = fmt::format("user-{}", thread);
    if (thread >= kNormal) {
      while (normal > 0) {
        const auto answer = Take(*lane, user, 1, In(1ms));
        if (!answer.ok() && !absl::IsDeadlineExceeded(answer.status())) ++unexpected;
      }
      return;
    }
    for (int call = 0; call < kCalls; ++call) {
      const auto answer = Take(*lane, user);
      EXPECT_THAT(answer, Succeeds());
      if (!answer.ok()) ++errors;
    }
    --normal;
  });
  EXPECT_EQ(errors, 0);
  EXPECT_EQ(unexpected, 0);
  EXPECT_EQ(Connections(), 0);
}

TEST_F(LaneTest, AServerThatDiesIsToldToAllAndNothingIsReplayed) {
  const auto lane = MakeWarmLane();
  Stop();
  const Caller leader(*lane, {"a"}, Deadline::max());
  std::vector<std::unique_ptr<Caller>> waiting;
  for (int i = 0; i < 5; ++i) {
    waiting.push_back(
        std::make_unique<Caller>(*lane, std::vector<std::string>{"a"}, Deadline::max()));
  }
  server().Kill();
  EXPECT_THAT(leader.Answer(), IsUnavailable());
  for (const auto& caller : waiting) EXPECT_THAT(caller->Answer(), IsUnavailable());
  server().Start();
  EXPECT_EQ(server().Run({"DBSIZE"}).integer(), 0);
  EXPECT_THAT(Take(*lane, "a"), Leaves(4));
}

TEST_F(LaneTest, AConnectionThatTheServerClosedIsReplaced) {
  const auto lane = MakeWarmLane();
  for (int left = 4; left >= 0; --left) {
    CloseAll();
    EXPECT_THAT(Take(*lane, "user"), Leaves(left));
  }
  EXPECT_EQ(Connections(), 5);
}

TEST_F(LaneTest, AHealthyConnectionThatIsTooOldFollowsTheName) {
  RedisServerProcess other;
  MovingResolver resolver(/*tells=*/false);
  resolver.Move(server().address().port);
  Lane lane(
      address_, kLong, script_, resolver, breaker_, metrics_, [](const Connection&) {},
      /*max_connection_age=*/1ms);
  EXPECT_THAT(Take(lane, "user"), Leaves(4));
  resolver.Move(other.address().port);
  // The other Redis has full buckets. No call fails meanwhile.
  EXPECT_TRUE(Eventually([&] {
    EXPECT_THAT(Take(lane, "user", 0), Succeeds());
    return other.Run({"DBSIZE"}).integer() == 0 && Take(lane, "user")->remaining == 4;
  }));
}

TEST_F(LaneTest, AConnectionThatIsTooOldServesUntilAnotherIsOpen) {
  const Socket nobody = Socket::Reserve("127.0.0.1");
  MovingResolver resolver(/*tells=*/false);
  resolver.Move(server().address().port);
  Lane lane(
      address_, kLong, script_, resolver, breaker_, metrics_, [](const Connection&) {},
      /*max_connection_age=*/1ms);
  EXPECT_THAT(Take(lane, "user"), Leaves(4));
  resolver.Move(nobody.port());
  // Some of these calls find the connection too old.
  for (const Deadline end = In(10ms); std::chrono::steady_clock::now() < end;) {
    EXPECT_THAT(Take(lane, "user", 0), Succeeds());
  }
  EXPECT_THAT(Take(lane, "user"), Leaves(3));
  EXPECT_EQ(Connections(), 1);
}

TEST_F(LaneTest, AServerThatIsBackIsUsed) {
  const auto lane = MakeWarmLane();
  server().Kill();
  for (int i = 0; i < Breaker::kConsecutive - 1; ++i) {
    EXPECT_THAT(Take(*lane, "user"), FailsWith(kUnavailable, EndsWith("Connection refused")));
  }
  server().Start();
  EXPECT_THAT(Take(*lane, "user"), Leaves(4));
}

TEST_F(LaneTest, WhereTheScriptIsGoneEachIsAnsweredOnce) {
  const auto lane = MakeWarmLane();
  server().Run({"SCRIPT", "FLUSH"});
  Errand errand({"a", "b", "a", "c", "b"}, 2);
  errand.Run(*lane, Deadline::max());
  for (const std::size_t first : {0U, 1U, 3U}) EXPECT_THAT(errand.Answer(first), Leaves(3));
  for (const std::size_t second : {2U, 4U}) EXPECT_THAT(errand.Answer(second), Leaves(1));
  EXPECT_EQ(Tokens("a"), 1);
  EXPECT_EQ(Tokens("b"), 1);
  EXPECT_EQ(Tokens("c"), 3);
  EXPECT_EQ(Runs("script|load"), 1);
  EXPECT_EQ(RoundTrips(), 1U);
}

TEST_F(LaneTest, AKeyOfAnotherTypeConcernsItsOwnCallsAlone) {
  const auto lane = MakeWarmLane();
  server().Run({"SET", "rl:1:default:{wrong}", "mine"});
  Stop();
  const Caller leader(*lane, {"leader"}, Deadline::max());
  const Caller a(*lane, {"a"}, Deadline::max());
  const Caller wrong(*lane, {"wrong"}, Deadline::max());
  const Caller mixed(*lane, {"b", "wrong", "c"}, Deadline::max());
  Continue();
  EXPECT_THAT(leader.Answer(), Leaves(4));
  EXPECT_THAT(a.Answer(), Leaves(4));
  const auto fails = FailsWith(kInternal, HasSubstr("WRONGTYPE"));
  EXPECT_THAT(wrong.Answer(), fails);
  EXPECT_THAT(mixed.Ended().Answer(0), Leaves(4));
  EXPECT_THAT(mixed.Ended().Answer(1), fails);
  EXPECT_THAT(mixed.Ended().Answer(2), Leaves(4));
  EXPECT_THAT(Take(*lane, "a"), Leaves(3));
  EXPECT_EQ(RoundTrips(), 3U);
  EXPECT_EQ(Connections(), 0);
}

TEST_F(LaneTest, WhatFailsAfterTheFirstWriteIsNotRunAgain) {
  // Reads and writes, but may set no expiry.
  server().Run({"ACL", "SETUSER", "limited", "on", ">right", "~rl:*", "+evalsha", "+script|load",
                "+hmget", "+hset", "+time"});
  RedisServer address = address_;
  address.user = "limited";
  address.password = "right";
  DnsResolver resolver("127.0.0.1");
  Lane lane(address, kLong, script_, resolver, breaker_, metrics_);
  server().Run({"SCRIPT", "LOAD", script_.source});  // Else each is run alone.
  Errand two({"a", "b"});
  two.Run(lane, Deadline::max());
  const auto fails = FailsWith(kUnavailable, HasSubstr("lacks rights"));
  EXPECT_THAT(two.Answer(0), fails);
  EXPECT_THAT(two.Answer(1), fails);
  // Which of them the script wrote first is left to it.
  int taken = 0;
  for (const char* user : {"a", "b"}) {
    const std::string key = fmt::format("rl:1:default:{{{}}}", user);
    const RedisReply tokens = server().Run({"HGET", key, "tokens"});
    if (tokens.type() == RedisReply::Type::kString)
      taken += 5 - std::stoi(std::string(tokens.text()));
  }
  EXPECT_EQ(taken, 1);
}

TEST(LaneToFakeTest, AReplyToSomethingElseAnswersNobody) {
  // To two commands it says a word too many, before the answer to the first.
  const FakeRedis fake(Answer("+OK\r\n*4\r\n:1\r\n:3\r\n:0\r\n:1\r\n"));
  const RedisServer address = {.port = fake.port()};
  const Script script = TokenBucketScript();
  Metrics metrics(0, "test");
  const SteadyClock clock;
  Breaker breaker(clock, 1);
  DnsResolver resolver("127.0.0.1");
  Lane lane(address, kLong, script, resolver, breaker, metrics);
  Errand two({"a", "other"});
  two.Run(lane, Deadline::max());
  EXPECT_THAT(two.Answer(0), FailsWith(kInternal, HasSubstr("not a decision")));
  EXPECT_EQ(two.Answer(1).status().code(), kUnavailable);
}

TEST_F(LaneTest, ADemotedServerIsToldToAllAndConnectedToAnew) {
  const auto lane = MakeWarmLane();
  server().Run({"REPLICAOF", "127.0.0.1", "1"});
  Stop();
  const Caller leader(*lane, {"leader"}, Deadline::max());
  const Caller a(*lane, {"a"}, Deadline::max());
  const Caller b(*lane, {"b"}, Deadline::max());
  Continue();
  const auto fails = FailsWith(kUnavailable, StartsWith("Redis answered \"READONLY"));
  for (const Caller* caller : {&leader, &a, &b}) EXPECT_THAT(caller->Answer(), fails);
  EXPECT_EQ(Connections(), 1);
  server().Run({"REPLICAOF", "NO", "ONE"});
  EXPECT_THAT(Take(*lane, "a"), Leaves(4));
  EXPECT_EQ(Connections(), 2);
}

TEST_F(LaneTest, ABrokenConnectionHasTheNameResolvedAgain) {
  const auto resolved = std::make_shared<std::atomic<int>>(0);
  const auto resolve = [resolved](const std::string& /*host*/) {
    ++*resolved;
    return std::vector<std::string>{"127.0.0.1"};
  };
  DnsResolver resolver("redis", resolve, 0ms);
  Lane lane(address_, kLong, script_, resolver, breaker_, metrics_);
  ASSERT_THAT(Take(lane, "user"), Succeeds());
  const int for_the_first = *resolved;
  Stop();
  const Caller leader(lane, {"user"}, Deadline::max());
  server().Kill();
  EXPECT_THAT(leader.Answer(), IsUnavailable());
  EXPECT_TRUE(Eventually([&] { return *resolved == for_the_first + 1; }));
  // One that cannot be opened looks it up before and after.
  EXPECT_THAT(Take(lane, "user"), IsUnavailable());
  EXPECT_TRUE(Eventually([&] { return *resolved == for_the_first + 3; }));
  server().Start();
}

TEST_F(LaneTest, AConnectionIsGivenUpWhenTheServerHasMoved) {
  MovingResolver resolver;
  Lane lane(address_, kLong, script_, resolver, breaker_, metrics_);
  EXPECT_THAT(Take(lane, "user"), Leaves(4));
  EXPECT_THAT(Take(lane, "user"), Leaves(3));
  EXPECT_EQ(Connections(), 1);
  const RedisServerProcess elsewhere;
  resolver.Move(elsewhere.address().port);
  EXPECT_THAT(Take(lane, "user"), Leaves(4));
  EXPECT_EQ(Connections(), 1);
  EXPECT_EQ(Tokens("user"), 3);
}

TEST_F(LaneTest, WhoSaysWhereAServerIsIsToldWithItsErrors) {
  MovingResolver resolver;
  const Socket nobody = Socket::Reserve("127.0.0.1");
  resolver.Move(nobody.port());
  Lane lane(address_, kLong, script_, resolver, breaker_, metrics_);
  EXPECT_THAT(Take(lane, "user"),
              FailsWith(kUnavailable, EndsWith(": at there, as I say: Connection refused")));
}

TEST_F(LaneTest, ResolvesANameAndTriesAllItsAddresses) {
  DnsResolver resolver("localhost");
  Lane lane(address_, kLong, script_, resolver, breaker_, metrics_);
  EXPECT_THAT(Take(lane, "user"), Succeeds());
}

TEST_F(LaneTest, ARefusedConnectionIsToldToAllWhoWait) {
  std::promise<void> end;
  const auto wait = [ended = end.get_future().share()](const std::string& /*host*/) {
    ended.wait();
    return std::vector<std::string>{"127.0.0.1"};
  };
  const Socket nobody = Socket::Reserve("127.0.0.1");
  const RedisServer address = {.port = nobody.port()};
  DnsResolver resolver("redis", wait);
  Lane lane(address, kLong, script_, resolver, breaker_, metrics_);
  std::vector<std::unique_ptr<Caller>> callers;
  for (int i = 0; i < 5; ++i) {
    callers.push_back(
        std::make_unique<Caller>(lane, std::vector<std::string>{"user"}, Deadline::max()));
  }
  end.set_value();
  for (const auto& caller : callers) {
    EXPECT_THAT(caller->Answer(), FailsWith(kUnavailable, EndsWith("Connection refused")));
  }
}

TEST_F(LaneTest, OneWhoseTimeEndsWhileConnectingLeavesTheOthersTheirs) {
  std::promise<void> end;
  const auto hang = [ended = end.get_future().share()](const std::string& /*host*/) {
    ended.wait();
    return std::vector<std::string>{"127.0.0.1"};
  };
  DnsResolver resolver("redis", hang);
  Lane lane(address_, kLong, script_, resolver, breaker_, metrics_);
  const Caller impatient(lane, {"impatient"}, In(4 * kShort));
  const Caller patient(lane, {"patient"}, Deadline::max());
  EXPECT_THAT(impatient.Answer(), kDeadlinePassed);
  EXPECT_FALSE(patient.has_ended());
  end.set_value();
  EXPECT_THAT(patient.Answer(), Leaves(4));
  EXPECT_EQ(Tokens("impatient"), 5);
}

TEST_F(LaneTest, EveryAnswerReachesWhoAskedThoughConnectionsBreak) {
  constexpr std::size_t kThreads = 16;
  constexpr std::uint64_t kCalls = 100;
  const auto lane = MakeWarmLane();
  std::atomic<std::size_t> working = kThreads;
  std::atomic<std::uint64_t> answered = 0;
  OnThreads(kThreads + 1, [&](std::size_t thread) {
    if (thread == kThreads) {
      for (std::uint64_t next = 0; working > 0; std::this_thread::yield()) {
        if (answered < next) continue;
        CloseAll();
        next = answered + 30;
      }
      return;
    }
    // Whose answer it is shows in what is left.
    const NamedSpec own = {fmt::format("own-{}", thread), 1'000 * (thread + 1), 1, 24h};
    std::uint64_t left = own.capacity;
    for (std::uint64_t call = 0; call < kCalls; ++call) {
      Errand errand({"user"}, 1, own);
      errand.Run(*lane, Deadline::max());
      const auto answer = errand.Answer();
      if (!answer.ok()) {
        // It may have been carried out.
        EXPECT_THAT(answer, IsUnavailable());
        continue;
      }
      EXPECT_LT(answer->remaining, left);
      EXPECT_GE(answer->remaining, own.capacity - call - 1);
      left = answer->remaining;
      ++answered;
    }
    --working;
  });
  EXPECT_GT(answered, 0U);
}

TEST_F(LaneTest, CallsOfOneBucketGoTheSameWay) {
  const RedisOptions options = {.server = address_, .timeout = kLong, .pool_size = 2};
  ConnectionPool pool(options, "rl:1:", script_, metrics_, clock_,
                      std::make_unique<DnsResolver>("127.0.0.1"));
  for (int left = 4; left >= 0; --left) EXPECT_THAT(Take(pool, "user"), Leaves(left));
  EXPECT_EQ(Connections(), 1);
  for (int i = 0; i < 64; ++i) EXPECT_THAT(Take(pool, fmt::format("user-{}", i)), Leaves(4));
  EXPECT_EQ(Connections(), 2);
}

// --- The breaker ---

TEST_F(LaneTest, AnOpenBreakerAnswersAtOnceAndAsksNobody) {
  const auto lane = MakeWarmLane();
  for (int i = 0; i < Breaker::kConsecutive; ++i) breaker_.Failed("the reason");
  EXPECT_THAT(Take(*lane, "user"),
              FailsWith(kUnavailable, AllOf(StartsWith("the reason; circuit breaker open for "),
                                            EndsWith("; probing"))));
  EXPECT_EQ(RoundTrips(), 0U);
  EXPECT_EQ(Runs("evalsha"), 0);
}

TEST_F(LaneTest, AProbePassesAnOpenBreaker) {
  const auto lane = MakeWarmLane();
  for (int i = 0; i < Breaker::kConsecutive; ++i) breaker_.Failed("the reason");
  Errand errand({"user"});
  errand.Run(*lane, Deadline::max(), Purpose::kProbe);
  EXPECT_THAT(errand.Answer(), Leaves(4));
  EXPECT_EQ(RoundTrips(), 0U) << "a probe is not observed";
  EXPECT_TRUE(breaker_.open()) << "who probes closes it";
}

TEST_F(LaneTest, ARoundTripCountsOnceHoweverManyShareIt) {
  const auto lane = MakeWarmLane();
  Stop();
  const Caller leader(*lane, {"leader"}, Deadline::max());
  std::vector<std::unique_ptr<Caller>> waiting;
  for (int i = 0; i < 10; ++i) {
    waiting.push_back(
        std::make_unique<Caller>(*lane, std::vector<std::string>{"a"}, Deadline::max()));
  }
  // The leader's connection ends, and the next one is refused: two failures.
  server().Kill();
  for (const auto& caller : waiting) EXPECT_THAT(caller->Answer(), IsUnavailable());
  EXPECT_FALSE(breaker_.open());
  EXPECT_THAT(Take(*lane, "user"), IsUnavailable());
  EXPECT_TRUE(breaker_.open());
  server().Start();
}

TEST_F(LaneTest, ACallersOwnDeadlineIsNoFailure) {
  const TcpServer silent(StaySilent);
  const RedisServer address = {.port = silent.port()};
  Lane lane(address, kLong, script_, resolver_, breaker_, metrics_);
  for (int i = 0; i < 2 * Breaker::kConsecutive; ++i) {
    EXPECT_THAT(Take(lane, "user", 1, In(10ms)), kDeadlinePassed);
  }
  EXPECT_FALSE(breaker_.open());
}

TEST_F(LaneTest, AnErrorOfOneKeyIsNoFailure) {
  const auto lane = MakeWarmLane();
  server().Run({"SET", "rl:1:default:{wrong}", "mine"});
  for (int i = 0; i < 2 * Breaker::kConsecutive; ++i) {
    EXPECT_THAT(Take(*lane, "wrong"), FailsWith(kInternal, HasSubstr("WRONGTYPE")));
  }
  EXPECT_FALSE(breaker_.open());
}

TEST_F(LaneTest, AServerThatRefusesIsAFailure) {
  const auto lane = MakeWarmLane();
  server().Run({"REPLICAOF", "127.0.0.1", "1"});
  for (int i = 0; i < Breaker::kConsecutive; ++i) {
    EXPECT_FALSE(breaker_.open());
    EXPECT_THAT(Take(*lane, "user"), FailsWith(kUnavailable, HasSubstr("READONLY")));
  }
  EXPECT_TRUE(breaker_.open());
  server().Run({"REPLICAOF", "NO", "ONE"});
}

TEST_F(LaneTest, CountsItsConnection) {
  const RedisMetrics& counted = metrics_.redis();
  auto lane = MakeLane();
  EXPECT_EQ(counted.connections(), 0U);
  EXPECT_THAT(Take(*lane, "user"), Leaves(4));
  CloseAll();
  EXPECT_THAT(Take(*lane, "user"), Leaves(3));
  EXPECT_EQ(counted.connections(), 1U);
  EXPECT_EQ(counted.connections_opened(), 2U);
  lane.reset();
  EXPECT_EQ(counted.connections(), 0U);
  EXPECT_EQ(counted.connections_opened(), 2U);
}

TEST_F(LaneTest, TellsHowManySharedARoundTripAndHowLongTheyWaited) {
  const auto lane = MakeWarmLane();
  const auto before = metrics_.redis().round_trip_calls().Sample().histogram;
  Stop();
  const Caller leader(*lane, {"leader"}, Deadline::max());
  const Caller a(*lane, {"a"}, Deadline::max());
  EXPECT_EQ(lane->waiting(), 1U);
  const auto came = std::chrono::steady_clock::now();
  const Caller several(*lane, {"b", "c", "d"}, Deadline::max());
  EXPECT_EQ(lane->waiting(), 2U);
  const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - came;
  Continue();
  several.Ended();
  a.Ended();
  const auto calls = metrics_.redis().round_trip_calls().Sample().histogram;
  EXPECT_EQ(calls.sample_count - before.sample_count, 2U);
  EXPECT_EQ(calls.sample_sum - before.sample_sum, 5);
  const auto waits = metrics_.redis().wait().Sample().histogram;
  EXPECT_EQ(waits.sample_count, calls.sample_count);
  EXPECT_GT(waits.sample_sum, waited.count());
  EXPECT_EQ(lane->waiting(), 0U);
}

// The kinds of the errors that were counted, each as often as it was.
std::vector<std::string_view> Errors(const RedisMetrics& metrics) {
  std::vector<std::string_view> kinds;
  for (std::size_t kind = 0; kind < kRedisErrorNames.size(); ++kind) {
    kinds.insert(kinds.end(), metrics.errors(kind), kRedisErrorNames[kind]);
  }
  return kinds;
}

TEST_F(LaneTest, CountsErrorsThatRedisAnswersByTheirKind) {
  const auto lane = MakeWarmLane();
  EXPECT_THAT(Errors(metrics_.redis()), IsEmpty()) << "that the script was not there is none";
  server().Run({"SET", "rl:1:default:{wrong}", "mine"});
  Errand several({"wrong", "a"});
  several.Run(*lane, Deadline::max());
  EXPECT_THAT(Errors(metrics_.redis()), ElementsAre("wrongtype"));
  server().Run({"REPLICAOF", "127.0.0.1", "1"});
  EXPECT_FALSE(Take(*lane, "user").ok());
  server().Run({"REPLICAOF", "NO", "ONE"});
  EXPECT_THAT(Errors(metrics_.redis()), ElementsAre("readonly", "wrongtype"));
}

TEST_F(LaneTest, CountsRoundTripsThatFailByHow) {
  const auto lane = MakeWarmLane(1s);
  Stop();
  EXPECT_FALSE(Take(*lane, "user").ok());
  Continue();
  EXPECT_THAT(Errors(metrics_.redis()), ElementsAre("timeout"));
  server().Kill();
  EXPECT_FALSE(Take(*lane, "user").ok());
  server().Start();
  EXPECT_THAT(Errors(metrics_.redis()), ElementsAre("timeout", "connect"));
}

TEST(LaneToFakeTest, CountsWhatIsNoAnswerAndWhatBreaksOff) {
  const std::vector<std::pair<TcpServer::Serve, std::string_view>> cases = {
      {Answer("HTTP/1.1 400 Bad Request\r\n\r\n"), "protocol"},
      {Answer("+OK\r\n"), "protocol"},
      {AnswerAndClose("*4\r\n:1\r\n"), "connection"}};
  for (const auto& [serve, kind] : cases) {
    const FakeRedis fake(serve);
    const RedisServer address = {.port = fake.port()};
    const Script script = TokenBucketScript();
    Metrics metrics(0, "test");
    const SteadyClock clock;
    Breaker breaker(clock, 1);
    DnsResolver resolver("127.0.0.1");
    Lane lane(address, kLong, script, resolver, breaker, metrics);
    EXPECT_FALSE(Take(lane, "user").ok());
    EXPECT_THAT(Errors(metrics.redis()), ElementsAre(kind));
    EXPECT_EQ(metrics.redis().connections(), 0U);
  }
}

TEST_F(LaneTest, ACallersOwnDeadlineIsNoErrorOfRedis) {
  const TcpServer silent(StaySilent);
  const RedisServer address = {.port = silent.port()};
  Lane lane(address, kLong, script_, resolver_, breaker_, metrics_);
  EXPECT_THAT(Take(lane, "user", 1, In(10ms)), kDeadlinePassed);
  EXPECT_THAT(Errors(metrics_.redis()), IsEmpty());
}

TEST_F(LaneTest, WhoWaitsWhenItOpensIsAnsweredThen) {
  const auto lane = MakeWarmLane();
  Stop();
  const Caller leader(*lane, {"leader"}, Deadline::max());
  std::vector<std::unique_ptr<Caller>> waiting;
  for (int i = 0; i < 200; ++i) {  // More than one turn takes.
    waiting.push_back(
        std::make_unique<Caller>(*lane, std::vector<std::string>{"a"}, Deadline::max()));
  }
  for (int i = 0; i < Breaker::kConsecutive; ++i) breaker_.Failed("the reason");
  EXPECT_FALSE(leader.has_ended());
  Continue();
  EXPECT_THAT(leader.Answer(), Leaves(4));
  for (const auto& caller : waiting) {
    EXPECT_THAT(caller->Answer(),
                FailsWith(kUnavailable, StartsWith("the reason; circuit breaker open for ")));
  }
  EXPECT_EQ(RoundTrips(), 1U);
  EXPECT_EQ(Tokens("a"), 5);
}

TEST_F(LaneTest, APoolHealsByItsProbes) {
  std::atomic<int> changes = 0;
  const RedisOptions options = {.server = address_,
                                .timeout = kShort,
                                .pool_size = 2,
                                .on_breaker = [&](bool, const std::string&) { ++changes; }};
  ConnectionPool pool(options, "rl:1:", script_, metrics_, clock_,
                      std::make_unique<DnsResolver>("127.0.0.1"));
  ASSERT_TRUE(Eventually([&] { return Take(pool, "user").ok(); }));
  Stop();
  std::atomic<bool> opened = false;
  OnThreads(16, [&](std::size_t thread) {
    // Nobody waits for longer, be it until the breaker opens or for a probe.
    for (int call = 0; call < 20; ++call) {
      EXPECT_LT(Elapsed([&] { EXPECT_FALSE(Take(pool, fmt::format("user-{}", thread)).ok()); }),
                2 * kShort + kMargin);
    }
    opened = opened || pool.open_breakers() > 0;
  });
  EXPECT_TRUE(opened);
  EXPECT_LT(Elapsed([&] {
              for (int call = 0; call < 1'000; ++call) EXPECT_FALSE(Take(pool, "user").ok());
            }),
            kLong)
      << "they waited, 50 ms each";
  EXPECT_THAT(pool.Check(Deadline::max()),
              FailsWith(kUnavailable, HasSubstr("circuit breaker open")));
  Continue();
  EXPECT_TRUE(Eventually([&] { return Take(pool, "user", 0).ok(); }));
  EXPECT_TRUE(Eventually([&] { return changes > 0 && changes % 2 == 0; }));
}

TEST_F(LaneTest, APoolEndsThoughItsProbeIsNotAnswered) {
  const TcpServer silent(StaySilent);
  const RedisOptions options = {.server = {.port = silent.port()}, .timeout = kShort};
  EXPECT_LT(Elapsed([&] {
              ConnectionPool pool(options, "rl:1:", script_, metrics_, clock_,
                                  std::make_unique<DnsResolver>("127.0.0.1"));
              while (pool.open_breakers() == 0) EXPECT_FALSE(Take(pool, "user").ok());
            }),
            6 * kShort + kMargin);
}

TEST(LaneToNobodyTest, ANameThatCannotBeResolvedIsToldInTime) {
  const RedisServer server = {.host = std::string(64, 'x')};
  const Script script = TokenBucketScript();
  Metrics metrics(0, "test");
  const SteadyClock clock;
  Breaker breaker(clock, 1);
  DnsResolver resolver(server.host);
  Lane lane(server, kLong, script, resolver, breaker, metrics);
  EXPECT_LT(Elapsed([&] {
              EXPECT_THAT(Take(lane, "user"),
                          FailsWith(kUnavailable, HasSubstr("cannot resolve \"xxx")));
            }),
            kMargin);
}

TEST(LaneToNobodyTest, AResolutionThatHangsFailsInTime) {
  std::promise<void> end;
  const auto hang = [ended = end.get_future().share()](const std::string& /*host*/) {
    ended.wait();
    return std::vector<std::string>();
  };
  const RedisServer server;
  const Script script = TokenBucketScript();
  Metrics metrics(0, "test");
  const SteadyClock clock;
  Breaker breaker(clock, 1);
  DnsResolver resolver("redis", hang);
  Lane lane(server, kShort, script, resolver, breaker, metrics);
  const auto elapsed = Elapsed([&] {
    EXPECT_THAT(Take(lane, "user"),
                FailsWith(kUnavailable, EndsWith("the name is still being resolved (REDIS_TIMEOUT "
                                                 "is 50ms)")));
  });
  EXPECT_GE(elapsed, kShort);
  EXPECT_LT(elapsed, kShort + kMargin);
  end.set_value();
}

TEST(LaneToNobodyTest, AServerThatStaysSilentFailsInTimeForAll) {
  const TcpServer silent(StaySilent);
  const RedisServer server = {.port = silent.port()};
  const Script script = TokenBucketScript();
  Metrics metrics(0, "test");
  const SteadyClock clock;
  Breaker breaker(clock, 1);
  DnsResolver resolver("127.0.0.1");
  Lane lane(server, kShort, script, resolver, breaker, metrics);
  EXPECT_LT(Elapsed([&] {
              OnThreads(8, [&](std::size_t) { EXPECT_THAT(Take(lane, "user"), IsUnavailable()); });
            }),
            2 * kShort + kMargin);
}

// One exchange with a fake Redis: what came, and what is to be replied to it.
struct Exchange {
  std::string until = "\r\n";  // What comes ends with this.
  std::promise<std::string> came{};
  std::promise<std::string> reply{};  // Empty: it closes the connection instead.
};

constexpr std::string_view kAllowed = "*4\r\n:1\r\n:4\r\n:0\r\n:1\r\n";

// On a fake Redis, which answers when a test has it do so.
class ToldLaneTest : public ::testing::Test {
 protected:
  void TearDown() override {
    for (Exchange& exchange : exchanges_) {
      try {
        exchange.reply.set_value("");
      } catch (const std::future_error&) {
        continue;  // It has been answered.
      }
    }
  }

  // Waits for the next exchange, and returns what came.
  std::string Came(std::size_t at) {
    auto came = exchanges_.at(at).came.get_future();
    if (came.wait_for(kLong) != std::future_status::ready) return "nothing";
    return came.get();
  }

  void Say(std::size_t at, std::string_view text) {
    exchanges_.at(at).reply.set_value(std::string(text));
  }

  static std::size_t Count(std::string_view text, std::string_view part) {
    std::size_t count = 0;
    for (std::size_t at = text.find(part); at != std::string_view::npos;
         at = text.find(part, at + 1)) {
      ++count;
    }
    return count;
  }

  // Makes and uses up an exchange of a lone caller.
  void TakeAlone(Lane& lane, std::size_t at) {
    const Caller caller(lane, {"alone"}, Deadline::max());
    EXPECT_EQ(Count(Came(at), "EVALSHA"), 1U);
    Say(at, kAllowed);
    EXPECT_THAT(caller.Answer(), Leaves(4));
  }

  std::array<Exchange, 6> exchanges_;
  std::atomic<std::size_t> next_ = 0;
  std::atomic<int> connections_ = 0;
  FakeRedis server_{[this](const Socket& connection) {
    ++connections_;
    while (next_ < exchanges_.size()) {
      Exchange& exchange = exchanges_.at(next_);
      std::string text;
      do {
        const std::string part = connection.Read();
        if (part.empty()) return;
        text += part;
      } while (!text.ends_with(exchange.until));
      ++next_;
      exchange.came.set_value(text);
      const std::string reply = exchange.reply.get_future().get();
      if (reply.empty()) return;
      connection.Write(reply);
    }
  }};

  const RedisServer address_{.port = server_.port()};
  const Script script_ = TokenBucketScript();
  DnsResolver resolver_{"127.0.0.1"};
  SteadyClock clock_;
  Breaker breaker_{clock_, 1};
  Metrics metrics_{0, "test"};
};

TEST_F(ToldLaneTest, ALeaderWhoseDeadlineEndsInFlightStaysForTheOthers) {
  Lane lane(address_, kLong, script_, resolver_, breaker_, metrics_);
  const Caller first(lane, {"first"}, Deadline::max());
  Came(0);
  const Deadline deadline = In(3s);
  const Caller leader(lane, {"leader"}, deadline);
  const Caller taken(lane, {"taken"}, deadline);
  const Caller patient(lane, {"patient"}, Deadline::max());
  Say(0, kAllowed);
  EXPECT_EQ(Count(Came(1), "EVALSHA"), 1U);
  EXPECT_TRUE(Eventually([&] { return std::chrono::steady_clock::now() > deadline + kShort; }));
  for (const Caller* caller : {&leader, &taken, &patient}) EXPECT_FALSE(caller->has_ended());
  Say(1, "*12\r\n:1\r\n:4\r\n:0\r\n:1\r\n:1\r\n:3\r\n:0\r\n:1\r\n:1\r\n:2\r\n:0\r\n:1\r\n");
  EXPECT_THAT(first.Answer(), Leaves(4));
  EXPECT_THAT(leader.Answer(), Leaves(4));
  EXPECT_THAT(taken.Answer(), Leaves(3));
  EXPECT_THAT(patient.Answer(), Leaves(2));
  TakeAlone(lane, 2);
  EXPECT_EQ(connections_, 1);
}

TEST_F(ToldLaneTest, WhatIsInFlightWhenTheConnectionBreaksIsToldAndNotReplayed) {
  Lane lane(address_, kLong, script_, resolver_, breaker_, metrics_);
  const Caller first(lane, {"first"}, Deadline::max());
  Came(0);
  const Caller leader(lane, {"a"}, Deadline::max());
  const Caller coalesced(lane, {"a"}, Deadline::max());
  const Caller other(lane, {"other"}, Deadline::max());
  Say(0, kAllowed);
  EXPECT_EQ(Count(Came(1), "EVALSHA"), 2U);
  const Caller late(lane, {"late"}, Deadline::max());
  Say(1, "");
  for (const Caller* caller : {&leader, &coalesced, &other}) {
    EXPECT_THAT(caller->Answer(), IsUnavailable());
  }
  // Whoever had not been sent is, on a new connection, and nobody else.
  const std::string came = Came(2);
  EXPECT_EQ(Count(came, "EVALSHA"), 1U);
  EXPECT_THAT(came, HasSubstr("{late}"));
  Say(2, kAllowed);
  EXPECT_THAT(late.Answer(), Leaves(4));
  TakeAlone(lane, 3);
  EXPECT_EQ(connections_, 2);
}

TEST_F(ToldLaneTest, WhoWasAnsweredBeforeTheConnectionBrokeKeepsTheAnswer) {
  Lane lane(address_, 3s, script_, resolver_, breaker_, metrics_);
  const Caller first(lane, {"first"}, Deadline::max());
  Came(0);
  const Caller leader(lane, {"a"}, Deadline::max());
  const Caller coalesced(lane, {"a"}, Deadline::max());
  const Caller other(lane, {"other"}, Deadline::max());
  Say(0, kAllowed);
  Came(1);
  Say(1, "*8\r\n:1\r\n:4\r\n:0\r\n:1\r\n:1\r\n:3\r\n:0\r\n:2\r\n*4\r\n:1\r\n");
  EXPECT_THAT(leader.Answer(), Leaves(4));
  EXPECT_THAT(coalesced.Answer(), Leaves(3));
  EXPECT_THAT(other.Answer(),
              FailsWith(kUnavailable, EndsWith("no answer in time (REDIS_TIMEOUT is 3s)")));
}

TEST_F(ToldLaneTest, OnlyWhatLackedTheScriptIsRunAgain) {
  Lane lane(address_, kLong, script_, resolver_, breaker_, metrics_);
  exchanges_[1].until = "$1\r\n3\r\n";
  std::atomic<bool> ended = false;
  // Of two limits, each of whose buckets pays 3.
  Errand errand({"a", "other", "other"}, 3);
  const WaitingThread thread([&] {
    errand.Run(lane, Deadline::max());
    ended = true;
  });
  EXPECT_EQ(Count(Came(0), "EVALSHA"), 2U);
  Say(0, std::string(kAllowed) + "-NOSCRIPT No matching script.\r\n");
  const std::string again = Came(1);
  EXPECT_EQ(Count(again, "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n"), 1U);
  EXPECT_EQ(Count(again, "EVALSHA"), 2U);
  EXPECT_THAT(again, AllOf(HasSubstr("{other}"), Not(HasSubstr("{a}"))));
  Say(1, "$40\r\n" + script_.sha1 + "\r\n*4\r\n:1\r\n:2\r\n:0\r\n:1\r\n" +
             "*4\r\n:0\r\n:2\r\n:9\r\n:1\r\n");
  EXPECT_TRUE(Eventually([&] { return ended.load(); }));
  EXPECT_THAT(errand.Answer(0), Leaves(4));
  EXPECT_THAT(errand.Answer(1), Leaves(2));
  EXPECT_EQ(*errand.Answer(2),
            (Decision{.allowed = false, .remaining = 2, .retry_after = 9us, .reset_after = 1us}));
}

TEST_F(ToldLaneTest, WhoseTimeEndsWhileOthersAreServedIsToldSo) {
  Lane lane(address_, 3s, script_, resolver_, breaker_, metrics_);
  const Caller first(lane, {"first"}, Deadline::max());
  Came(0);
  // So many that the turn takes no more.
  const Caller many(lane, std::vector<std::string>(128, "many"), Deadline::max());
  const Caller late(lane, {"late"}, Deadline::max());
  Say(0, kAllowed);
  Came(1);
  EXPECT_THAT(
      late.Answer(),
      FailsWith(
          kUnavailable,
          AllOf(StartsWith("Redis at 127.0.0.1:"),
                EndsWith("timed out waiting for the shared connection (REDIS_TIMEOUT is 3s)"))));
}

}  // namespace
}  // namespace ratelimiter::testing
