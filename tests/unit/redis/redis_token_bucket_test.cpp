#include "ratelimiter/redis/redis_token_bucket.h"

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <future>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/decide.h"
#include "support/eventually.h"
#include "support/manual_clock.h"
#include "support/status.h"
#include "support/threads.h"
#include "unit/redis/fake_redis.h"
#include "unit/redis/redis_test.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using std::chrono::microseconds;

using ::testing::_;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

using enum absl::StatusCode;

const NamedSpec kLimit = {"default", 5, 1, 24h};
const NamedSpec kLargeLimit = {"large", 10'000, 1, 24h};

// A new connection loads a script, and runs it, that tells what we may do there.
constexpr int kOfConnecting = 1;

class RedisTokenBucketTest : public RedisTest {
 protected:
  // A store that waits long enough for every Redis that works.
  RedisOptions Options() const { return {.server = server().address(), .timeout = kLong}; }

  RedisOptions Impatient() const {
    RedisOptions options = Options();
    options.timeout = kShort;
    return options;
  }

  // `body` as a script that Redis knows by its name.
  static Script Lua(const std::string& body) {
    const std::string source = "#!lua\n" + body;
    return {.source = source, .sha1 = Text(server().Run({"SCRIPT", "LOAD", source}))};
  }

  // What the store makes of a script's answer.
  absl::Status StatusOfAnswer(const std::string& body) {
    RedisTokenBucket store(Options(), metrics_, clock_, Lua(body));
    return Decide(store, kLimit, "user", {}, Deadline::max()).status();
  }

  Metrics metrics_{0, "test"};
  SteadyClock clock_;
};

TEST_F(RedisTokenBucketTest, KnowsItsScriptByTheNameThatRedisGivesIt) {
  const Script script = TokenBucketScript();
  EXPECT_EQ(script.sha1, Text(server().Run({"SCRIPT", "LOAD", script.source})));
}

TEST_F(RedisTokenBucketTest, ItsScriptTakesNoTimeFromTheCaller) {
  const std::string source = TokenBucketScript().source;
  EXPECT_THAT(source, AllOf(StartsWith("#!lua\n"), HasSubstr("call('TIME')")));
}

TEST_F(RedisTokenBucketTest, ABucketIsReadableUnderItsKey) {
  RedisTokenBucket store(Options(), metrics_, clock_);
  ASSERT_THAT(Decide(store, kLimit, "user", {.cost = 2}, Deadline::max()), Succeeds());
  EXPECT_EQ(Text(server().Run({"HGET", "rl:1:default:{user}", "tokens"})), "3");
  EXPECT_EQ(Text(server().Run({"HGET", "rl:1:default:{user}", "time"})).size(), 16U);
  EXPECT_GT(server().Run({"PTTL", "rl:1:default:{user}"}).integer(), 0);
}

TEST_F(RedisTokenBucketTest, AKeyWithoutAnExpiryGetsOne) {
  RedisTokenBucket store(Options(), metrics_, clock_);
  ASSERT_THAT(Decide(store, kLimit, "user", {}, Deadline::max()), Succeeds());
  ASSERT_EQ(server().Run({"PERSIST", "rl:1:default:{user}"}).integer(), 1);
  EXPECT_EQ(Decide(store, kLimit, "user", {}, Deadline::max())->remaining, 3U);
  EXPECT_GT(server().Run({"PTTL", "rl:1:default:{user}"}).integer(), 0);
}

TEST_F(RedisTokenBucketTest, WarnsOnceIfBucketsMayBeEvicted) {
  RedisOptions options = Options();
  options.pool_size = 2;
  std::vector<std::string> warnings;
  options.on_evicting = [&](const std::string& message) { warnings.push_back(message); };
  RedisTokenBucket store(options, metrics_, clock_);
  const auto on_all_connections = [&] {
    CloseAll();
    for (int user = 0; user < 20; ++user) {
      ASSERT_THAT(Decide(store, kLimit, fmt::format("{}", user), {}, Deadline::max()), Succeeds());
    }
  };
  on_all_connections();
  EXPECT_TRUE(warnings.empty());
  EXPECT_FALSE(store.may_evict());
  server().Run({"CONFIG", "SET", "maxmemory", "1gb"});
  server().Run({"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"});
  for (int time = 0; time < 2; ++time) on_all_connections();
  EXPECT_TRUE(store.may_evict());
  server().Run({"CONFIG", "SET", "maxmemory-policy", "noeviction"});
  server().Run({"CONFIG", "SET", "maxmemory", "0"});
  on_all_connections();
  EXPECT_FALSE(store.may_evict());
  EXPECT_THAT(warnings, ElementsAre(AllOf(StartsWith("Redis at 127.0.0.1:"),
                                          HasSubstr("allkeys-lru; set noeviction"))));
}

TEST_F(RedisTokenBucketTest, AKeyHoldsTheSubjectWithinOneHashTag) {
  const RedisTokenBucket store(Options(), metrics_, clock_);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"user", "rl:1:default:{user}"},   {"a%b", "rl:1:default:{a%25b}"},
      {"a}b", "rl:1:default:{a%7Db}"},   {"a%7Db", "rl:1:default:{a%257Db}"},
      {"{a", "rl:1:default:{{a}"},       {"}", "rl:1:default:{%7D}"},
      {"a}:b", "rl:1:default:{a%7D:b}"}, {"a b\n", "rl:1:default:{a b\n}"},
      {"a\0b"s, "rl:1:default:{a\0b}"s}};
  for (const auto& [user, key] : cases) {
    EXPECT_EQ(store.Key("default", testing::BucketKeyOf(user)), key);
  }
}

TEST_F(RedisTokenBucketTest, PrefixesKeepDeploymentsApart) {
  RedisOptions options = Options();
  RedisTokenBucket one(options, metrics_, clock_);
  options.key_prefix = "other";
  RedisTokenBucket other(options, metrics_, clock_);
  ASSERT_THAT(Decide(one, kLimit, "user", {.cost = 5}, Deadline::max()), Succeeds());
  EXPECT_EQ(Decide(other, kLimit, "user", {}, Deadline::max())->remaining, 4U);
  EXPECT_EQ(other.Key("default", testing::BucketKeyOf("user")), "other:1:default:{user}");
}

TEST_F(RedisTokenBucketTest, StoresWithOnePrefixShareTheirBuckets) {
  RedisTokenBucket one(Options(), metrics_, clock_);
  RedisTokenBucket other(Options(), metrics_, clock_);
  ASSERT_THAT(Decide(one, kLimit, "user", {.cost = 3}, Deadline::max()), Succeeds());
  EXPECT_EQ(Decide(other, kLimit, "user", {}, Deadline::max())->remaining, 1U);
}

TEST_F(RedisTokenBucketTest, LoadsTheScriptWhereRedisDoesNotKnowIt) {
  RedisTokenBucket store(Options(), metrics_, clock_);
  for (std::uint64_t left = 5; left > 0; --left) {
    server().Run({"SCRIPT", "FLUSH"});
    EXPECT_EQ(Decide(store, kLimit, "user", {}, Deadline::max())->remaining, left - 1);
  }
  EXPECT_EQ(Connections(), 1);
}

TEST_F(RedisTokenBucketTest, DecidesWhileTheScriptIsForgottenAllTheTime) {
  RedisTokenBucket store(Options(), metrics_, clock_);
  ASSERT_THAT(Decide(store, kLargeLimit, "user", {}, Deadline::max()), Succeeds());
  std::atomic<int> loads = 0;
  {
    const std::jthread flushing([&](const std::stop_token& stop) {
      for (int flushes = 1; !stop.stop_requested(); ++flushes) {
        server().Run({"SCRIPT", "FLUSH"});
        if (flushes % 100 == 0) loads = Runs("script|load");
      }
    });
    // The flushes may begin late.
    for (int i = 0; i < 5'000 || (loads <= 100 && i < 500'000); ++i) {
      ASSERT_THAT(Decide(store, kLargeLimit, "user", {}, Deadline::max()), Succeeds());
    }
  }
  EXPECT_GT(loads, 100);
}

TEST_F(RedisTokenBucketTest, AsksOnceWhereRedisKnowsTheScript) {
  server().Run({"SCRIPT", "LOAD", TokenBucketScript().source});
  RedisTokenBucket store(Options(), metrics_, clock_);
  for (int i = 0; i < 3; ++i) {
    ASSERT_THAT(Decide(store, kLimit, "user", {}, Deadline::max()), Succeeds());
  }
  EXPECT_EQ(Runs("evalsha"), kOfConnecting + 3);
}

TEST_F(RedisTokenBucketTest, RunsAScriptOnceMoreAndNoMore) {
  RedisTokenBucket store(Options(), metrics_, clock_,
                         {.source = "#!lua\nreturn 1", .sha1 = std::string(40, '0')});
  EXPECT_THAT(Decide(store, kLimit, "user", {}, Deadline::max()),
              FailsWith(kUnavailable, StartsWith("Redis answered \"NOSCRIPT")));
  EXPECT_EQ(Runs("evalsha"), kOfConnecting + 2);
}

TEST_F(RedisTokenBucketTest, TellsWhyAScriptCannotBeLoaded) {
  RedisTokenBucket store(Options(), metrics_, clock_,
                         {.source = "#!lua\nno lua", .sha1 = std::string(40, '0')});
  EXPECT_THAT(Decide(store, kLimit, "user", {}, Deadline::max()),
              FailsWith(kInternal, HasSubstr("Error compiling script")));
}

TEST_F(RedisTokenBucketTest, AnAnswerThatIsNoDecisionIsToldAsItCame) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"return 1", "the integer 1"},
      {"return false", "nil"},
      {"return 'four'", "\"four\""},
      {"return {ok = 'fine'}", "\"fine\""},
      {"return 'a\\n\\27[31m\\255'", "\"a\uFFFD\uFFFD[31m\uFFFD\""},
      {"return string.rep('x', 1000)", "\"" + std::string(200, 'x') + "\""},
      {"return {}", "an array of 0"},
      {"return {1, 2, 0}", "an array of 3: the integer 1, the integer 2, the integer 0"},
      {"return {1, 1, 1, 1, 1, 1, 1}",
       "an array of 7: the integer 1, the integer 1, the integer 1, the integer 1, the integer 1"},
      {"return {1, '4', 0, 1}",
       "an array of 4: the integer 1, \"4\", the integer 0, the integer 1"},
      {"return {2, 4, 0, 1}",
       "an array of 4: the integer 2, the integer 4, the integer 0, the integer 1"},
      {"return {1, 6, 0, 1}",
       "an array of 4: the integer 1, the integer 6, the integer 0, the integer 1"},
      {"return {1, -1, 0, 1}",
       "an array of 4: the integer 1, the integer -1, the integer 0, the integer 1"},
      {"return {1, 4, 7, 1}",
       "an array of 4: the integer 1, the integer 4, the integer 7, the integer 1"},
      {"return {0, 0, 0, 1}",
       "an array of 4: the integer 0, the integer 0, the integer 0, the integer 1"}};
  for (const auto& [body, came] : cases) {
    EXPECT_THAT(StatusOfAnswer(body),
                FailsWith(kInternal,
                          "Redis's reply is not a decision of the token bucket script: " + came));
  }
}

TEST_F(RedisTokenBucketTest, AServerThatRefusesIsAFailedStore) {
  for (const char* error : {"READONLY", "LOADING", "MASTERDOWN", "OOM", "NOREPLICAS", "CLUSTERDOWN",
                            "BUSY", "MISCONF", "NOPERM"}) {
    EXPECT_THAT(StatusOfAnswer(fmt::format("return redis.error_reply('{} now')", error)),
                FailsWith(kUnavailable, StartsWith(fmt::format("Redis answered \"{} now", error))));
  }
}

TEST_F(RedisTokenBucketTest, RightsThatTheScriptLacksAreAFailedStore) {
  RedisOptions options = Options();
  options.server.user = "limited";
  options.server.password = "right";
  RedisTokenBucket store(options, metrics_, clock_);
  const auto fails =
      FailsWith(kUnavailable, AllOf(HasSubstr("user \"limited\""), EndsWith(": +pexpireat")));
  server().Run({"ACL", "SETUSER", "limited", "on", ">right", "~rl:*", "+evalsha", "+script|load",
                "+hmget", "+hset", "+hkeys", "+hdel", "+del", "+pexpiretime", "+time"});
  EXPECT_THAT(Decide(store, kLimit, "user", {}, Deadline::max()), fails);
  EXPECT_THAT(store.Check(Deadline::max()), fails);
  EXPECT_EQ(server().Run({"DBSIZE"}).integer(), 0);
  server().Run({"ACL", "SETUSER", "limited", "+pexpireat"});
  EXPECT_EQ(Decide(store, kLimit, "user", {}, Deadline::max())->remaining, 4U);

  // One that is taken away is found by the script, and at once after that by who connects.
  server().Run({"ACL", "SETUSER", "limited", "-pexpireat"});
  EXPECT_THAT(Decide(store, kLimit, "user", {}, Deadline::max()),
              FailsWith(kUnavailable, HasSubstr("; the user in REDIS_URL lacks rights")));
  for (int call = 0; call < 3; ++call) {
    EXPECT_THAT(Decide(store, kLimit, "other", {}, Deadline::max()), Not(Succeeds()));
  }
  EXPECT_EQ(server().Run({"EXISTS", "rl:1:default:{other}"}).integer(), 0);
  server().Run({"ACL", "DELUSER", "limited"});
}

TEST_F(RedisTokenBucketTest, AServerThatRefusesIsConnectedToAnew) {
  RedisTokenBucket store(Options(), metrics_, clock_,
                         Lua("return redis.error_reply('READONLY now')"));
  for (int call = 1; call <= 3; ++call) {
    EXPECT_FALSE(Decide(store, kLimit, "user", {}, Deadline::max()).ok());
    EXPECT_EQ(Connections(), call);
  }
}

TEST_F(RedisTokenBucketTest, AKeyThatIsNoBucketIsAnErrorAndStaysAsItIs) {
  RedisTokenBucket store(Options(), metrics_, clock_);
  server().Run({"SET", store.Key("default", testing::BucketKeyOf("user")), "mine"});
  EXPECT_THAT(Decide(store, kLimit, "user", {}, Deadline::max()),
              FailsWith(kInternal, HasSubstr("WRONGTYPE")));
  EXPECT_EQ(Text(server().Run({"GET", store.Key("default", testing::BucketKeyOf("user"))})),
            "mine");
}

TEST_F(RedisTokenBucketTest, AnErrorOfOneKeyCostsNoConnection) {
  RedisTokenBucket store(Options(), metrics_, clock_);
  server().Run({"SET", store.Key("default", testing::BucketKeyOf("wrong type")), "mine"});
  server().Run({"HSET", store.Key("default", testing::BucketKeyOf("nonsense")), "tokens", "many",
                "time", "noon"});
  EXPECT_THAT(Decide(store, kLimit, "wrong type", {}, Deadline::max()), FailsWith(kInternal, _));
  EXPECT_THAT(Decide(store, kLimit, "nonsense", {}, Deadline::max()), FailsWith(kInternal, _));
  EXPECT_THAT(Decide(store, kLimit, "user", {}, Deadline::max()), Succeeds());
  EXPECT_EQ(Connections(), 1);
}

TEST_F(RedisTokenBucketTest, EveryRoundTripIsObserved) {
  RedisTokenBucket store(Options(), metrics_, clock_);
  ASSERT_THAT(Decide(store, kLimit, "user", {}, Deadline::max()), Succeeds());
  EXPECT_EQ(ObservedLatencies(metrics_), 1U);
  EXPECT_FALSE(StatusOfAnswer("return redis.error_reply('OOM now')").ok());
  EXPECT_EQ(ObservedLatencies(metrics_), 2U);
}

TEST_F(RedisTokenBucketTest, ARoundTripThatFailsIsObserved) {
  RedisTokenBucket store(Impatient(), metrics_, clock_);
  ASSERT_TRUE(Eventually([&] { return store.Check(Deadline::max()).ok(); }));
  const std::uint64_t before = ObservedLatencies(metrics_);
  server().process().Stop();
  EXPECT_FALSE(Decide(store, kLimit, "user", {}, Deadline::max()).ok());
  server().process().Signal(SIGCONT);
  EXPECT_EQ(ObservedLatencies(metrics_), before + 1);
}

TEST_F(RedisTokenBucketTest, ACheckIsNotObserved) {
  RedisTokenBucket store(Options(), metrics_, clock_);
  ASSERT_THAT(store.Check(Deadline::max()), Succeeds());
  EXPECT_EQ(ObservedLatencies(metrics_), 0U);
}

TEST_F(RedisTokenBucketTest, ACallWhoseDeadlineHasPassedSendsNothing) {
  RedisTokenBucket store(Options(), metrics_, clock_);
  const auto fails =
      FailsWith(kDeadlineExceeded, "the call's deadline passed before Redis was asked");
  EXPECT_THAT(Decide(store, kLimit, "user", {}, In(-1us)), fails);
  EXPECT_THAT(store.Check(In(-1us)), fails);
  EXPECT_EQ(Connections(), 0);
  EXPECT_EQ(ObservedLatencies(metrics_), 0U);
}

TEST_F(RedisTokenBucketTest, AStoppedRedisIsToldInTimeAndHeals) {
  RedisTokenBucket store(Impatient(), metrics_, clock_);
  ASSERT_TRUE(Eventually([&] { return store.Check(Deadline::max()).ok(); }));
  server().process().Stop();
  for (int call = 0; call < 3; ++call) {
    EXPECT_LT(Elapsed([&] {
                EXPECT_THAT(
                    Decide(store, kLimit, "user", {.cost = 0}, Deadline::max()),
                    FailsWith(kUnavailable, AllOf(StartsWith("Redis at 127.0.0.1:"),
                                                  EndsWith(" is not available: no answer in time "
                                                           "(REDIS_TIMEOUT is 50ms)"))));
              }),
              2 * kShort + kMargin);
  }
  server().process().Signal(SIGCONT);
  EXPECT_TRUE(
      Eventually([&] { return Decide(store, kLimit, "user", {.cost = 0}, Deadline::max()).ok(); }));
}

TEST_F(RedisTokenBucketTest, ALateReplyAnswersNobodyElse) {
  RedisTokenBucket store(Impatient(), metrics_, clock_);
  ASSERT_TRUE(Eventually([&] { return Decide(store, kLimit, "a", {}, Deadline::max()).ok(); }));
  server().process().Stop();
  EXPECT_FALSE(Decide(store, kLargeLimit, "b", {}, Deadline::max()).ok());
  server().process().Signal(SIGCONT);
  absl::StatusOr<Decision> next;
  ASSERT_TRUE(Eventually([&] {
    next = Decide(store, kLimit, "c", {.cost = 0}, Deadline::max());
    return next.ok();
  }));
  EXPECT_EQ(next->remaining, 5U);
}

TEST_F(RedisTokenBucketTest, ADeadlineThatEndsOnceTheCommandIsSentCostsNoConnection) {
  RedisTokenBucket store(Options(), metrics_, clock_);
  ASSERT_THAT(Decide(store, kLimit, "user", {}, Deadline::max()), Succeeds());
  server().process().Stop();
  auto decision = std::async(std::launch::async,
                             [&] { return Decide(store, kLimit, "user", {}, In(2 * kShort)); });
  EXPECT_EQ(decision.wait_for(4 * kShort), std::future_status::timeout);
  server().process().Signal(SIGCONT);
  EXPECT_THAT(decision.get(), Succeeds());
  EXPECT_EQ(Connections(), 1);
}

TEST_F(RedisTokenBucketTest, ADeadRedisIsToldAndOneThatIsBackIsUsed) {
  RedisTokenBucket store(Options(), metrics_, clock_);
  ASSERT_THAT(Decide(store, kLimit, "user", {}, Deadline::max()), Succeeds());
  server().Kill();
  const auto fails = FailsWith(kUnavailable, fmt::format("Redis at {} is not available: "
                                                         "Connection refused",
                                                         server().address().Address()));
  EXPECT_THAT(Decide(store, kLimit, "user", {}, Deadline::max()), fails);
  EXPECT_THAT(store.Check(Deadline::max()), fails);
  server().Start();
  EXPECT_THAT(store.Check(Deadline::max()), Succeeds());
  EXPECT_EQ(Decide(store, kLimit, "user", {}, Deadline::max())->remaining, 4U);
}

TEST_F(RedisTokenBucketTest, ACheckThatRedisRefusesIsAFailedStore) {
  RedisTokenBucket store(Options(), metrics_, clock_);
  ASSERT_THAT(store.Check(Deadline::max()), Succeeds());
  server().Run({"ACL", "SETUSER", "default", "-evalsha"});
  EXPECT_THAT(store.Check(Deadline::max()),
              FailsWith(kUnavailable, StartsWith("Redis answered \"NOPERM")));
  server().Run({"ACL", "SETUSER", "default", "+evalsha"});
}

TEST_F(RedisTokenBucketTest, ACheckFailsWhileRedisRefusesDecisions) {
  RedisTokenBucket store(Options(), metrics_, clock_);
  using Command = std::initializer_list<std::string_view>;
  const auto check = [&](Command spoil, Command heal, const std::string& error) {
    const auto fails = FailsWith(kUnavailable, StartsWith("Redis answered \"" + error + " "));
    server().Run(spoil);
    EXPECT_THAT(Decide(store, kLimit, "user", {}, Deadline::max()), fails);
    EXPECT_THAT(store.Check(Deadline::max()), fails);
    server().Run(heal);
    EXPECT_THAT(store.Check(Deadline::max()), Succeeds());
    EXPECT_THAT(Decide(store, kLimit, "user", {}, Deadline::max()), Succeeds());
  };
  check({"REPLICAOF", "127.0.0.1", "1"}, {"REPLICAOF", "NO", "ONE"}, "READONLY");
  check({"CONFIG", "SET", "maxmemory", "1"}, {"CONFIG", "SET", "maxmemory", "0"}, "OOM");
  check({"CONFIG", "SET", "min-replicas-to-write", "1"},
        {"CONFIG", "SET", "min-replicas-to-write", "0"}, "NOREPLICAS");
}

TEST_F(RedisTokenBucketTest, ACheckLoadsTheScriptAndChangesNothing) {
  RedisTokenBucket store(Options(), metrics_, clock_);
  ASSERT_THAT(store.Check(Deadline::max()), Succeeds());
  EXPECT_EQ(Runs("script|load"), kOfConnecting + 1);
  ASSERT_THAT(store.Check(Deadline::max()), Succeeds());
  EXPECT_EQ(Runs("script|load"), kOfConnecting + 1);
  EXPECT_EQ(server().Run({"DBSIZE"}).integer(), 0);
}

TEST_F(RedisTokenBucketTest, NoErrorTellsThePassword) {
  RedisOptions options = Options();
  options.server.password = "hunter2";
  server().Run({"CONFIG", "SET", "requirepass", "right"});
  RedisTokenBucket store(options, metrics_, clock_);
  EXPECT_THAT(Decide(store, kLimit, "user", {}, Deadline::max()),
              FailsWith(kUnavailable, Not(HasSubstr("hunter2"))));
  server().Run({"CONFIG", "SET", "requirepass", ""});
}

TEST_F(RedisTokenBucketTest, ConcurrentCallsTakeEveryTokenOnceOverNoMoreConnectionsThanAllowed) {
  constexpr std::size_t kThreads = 16;
  constexpr std::size_t kCalls = 100;
  RedisOptions options = Options();
  options.pool_size = 4;
  RedisTokenBucket store(options, metrics_, clock_);
  std::vector<std::set<std::uint64_t>> left(kThreads);
  OnThreads(kThreads, [&](std::size_t thread) {
    for (std::size_t call = 0; call < kCalls; ++call) {
      const auto decision = Decide(store, kLargeLimit, "user", {}, Deadline::max());
      ASSERT_THAT(decision, Succeeds());
      left[thread].insert(decision->remaining);
    }
  });
  std::set<std::uint64_t> seen;
  for (const auto& numbers : left) seen.insert(numbers.begin(), numbers.end());
  EXPECT_EQ(seen.size(), kThreads * kCalls);
  EXPECT_EQ(*seen.begin(), kLargeLimit.capacity - kThreads * kCalls);
  EXPECT_LE(Connections(), 4);
}

// What is known of refusals, by a clock that the test moves. Redis's own moves too
// little for a token of these limits to come.
class DeniedTest : public RedisTokenBucketTest {
 protected:
  RedisOptions Remembering(microseconds max_age) const {
    RedisOptions options = Options();
    options.deny_cache_max_age = max_age;
    return options;
  }

  void SetUp() override {
    RedisTokenBucketTest::SetUp();
    server().Run({"SCRIPT", "LOAD", TokenBucketScript().source});
  }

  static Charge On(std::string_view user, std::uint64_t cost = 1) {
    return {.limit = kLimit.name, .bucket_key = user, .spec = kLimit.spec(), .cost = cost};
  }

  struct Answer {
    absl::Status status;
    std::vector<Decision> decisions;
  };

  static Answer Ask(TokenBucketStore& store, const std::vector<Charge>& charges,
                    Action action = Action::kTake, bool complete = true) {
    Answer answer;
    answer.decisions.resize(charges.size());
    Transaction transaction = {
        .charges = charges, .action = action, .complete = complete, .decisions = answer.decisions};
    store.Decide({&transaction, 1}, Deadline::max());
    answer.status = transaction.status;
    EXPECT_THAT(answer.status, Succeeds());
    return answer;
  }

  // Has the store find out that a user's bucket is empty.
  static Decision Empty(TokenBucketStore& store, std::string_view user) {
    EXPECT_TRUE(Ask(store, {On(user, 5)}).decisions[0].allowed);
    const Decision refusal = Ask(store, {On(user)}).decisions[0];
    EXPECT_FALSE(refusal.allowed);
    server().Run({"CONFIG", "RESETSTAT"});
    return refusal;
  }

  ManualClock manual_{1h};
};

TEST_F(DeniedTest, ARefusedBucketCostsNoRoundTripUntilItsWaitIsOver) {
  RedisTokenBucket store(Remembering(48h), metrics_, manual_);
  const Decision refusal = Empty(store, "{user}");
  for (int i = 0; i < 100; ++i) EXPECT_EQ(Ask(store, {On("{user}")}).decisions[0], refusal);
  manual_.Advance(1h);
  const Decision later = Ask(store, {On("{user}")}).decisions[0];
  EXPECT_EQ(later.retry_after, refusal.retry_after - 1h);
  EXPECT_EQ(later.reset_after, refusal.reset_after - 1h);
  manual_.Advance(later.retry_after - 1us);
  EXPECT_EQ(Ask(store, {On("{user}")}).decisions[0].retry_after, 1us);
  EXPECT_EQ(Runs("evalsha"), 0);
  EXPECT_EQ(metrics_.redis().deny_cache_hits(), 102U);
  manual_.Advance(1us);
  EXPECT_GT(Ask(store, {On("{user}")}).decisions[0].retry_after, 23h);  // As Redis has it.
  EXPECT_EQ(Runs("evalsha"), 1);
}

TEST_F(DeniedTest, WithoutAnAgeEveryCallAsks) {
  RedisTokenBucket store(Remembering(0us), metrics_, manual_);
  Empty(store, "{user}");
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(Ask(store, {On("{user}")}).decisions[0].allowed);
  EXPECT_EQ(Runs("evalsha"), 3);
}

TEST_F(DeniedTest, ADeadlineThatHasPassedDoesNotMatterToWhatIsKnown) {
  RedisTokenBucket store(Remembering(1h), metrics_, manual_);
  const Decision refusal = Empty(store, "{user}");
  EXPECT_EQ(*Decide(store, kLimit, "user", {}, In(-1us)), refusal);
}

TEST_F(DeniedTest, OtherBucketsAreAsked) {
  RedisTokenBucket store(Remembering(1h), metrics_, manual_);
  Empty(store, "{user}");
  EXPECT_TRUE(Ask(store, {On("{other}")}).decisions[0].allowed);
  EXPECT_EQ(Runs("evalsha"), 1);
}

TEST_F(DeniedTest, LooksAreAsked) {
  RedisTokenBucket store(Remembering(1h), metrics_, manual_);
  Empty(store, "{user}");
  EXPECT_FALSE(Ask(store, {On("{user}")}, Action::kPeek).decisions[0].allowed);
  EXPECT_TRUE(Ask(store, {On("{user}", 0)}).decisions[0].allowed);
  EXPECT_EQ(Runs("evalsha"), 2);
}

TEST_F(DeniedTest, WhatALookFindsIsNotRemembered) {
  RedisTokenBucket store(Remembering(1h), metrics_, manual_);
  EXPECT_TRUE(Ask(store, {On("{user}", 5)}).decisions[0].allowed);
  EXPECT_FALSE(Ask(store, {On("{user}")}, Action::kPeek).decisions[0].allowed);
  server().Run({"CONFIG", "RESETSTAT"});
  EXPECT_FALSE(Ask(store, {On("{user}")}).decisions[0].allowed);
  EXPECT_EQ(Runs("evalsha"), 1);
}

TEST_F(DeniedTest, TransactionsWithShadowsAreAsked) {
  RedisTokenBucket store(Remembering(1h), metrics_, manual_);
  Empty(store, "{user}");
  Charge shadow = On("{other}");
  shadow.shadow = true;
  for (const bool complete : {true, false}) {
    const Answer answer = Ask(store, {On("{user}"), shadow}, Action::kTake, complete);
    EXPECT_FALSE(answer.decisions[0].allowed);
    EXPECT_TRUE(answer.decisions[1].allowed);
    EXPECT_TRUE(answer.decisions[1].known);
  }
  EXPECT_EQ(Runs("evalsha"), 2);
  shadow.bucket_key = "{user}";
  EXPECT_FALSE(Ask(store, {shadow}).decisions[0].allowed);
  EXPECT_EQ(Runs("evalsha"), 3);
}

TEST_F(DeniedTest, WhereAllIsWantedAllAreAskedUnlessAllAreKnown) {
  RedisTokenBucket store(Remembering(1h), metrics_, manual_);
  const Decision first = Empty(store, "{a}");
  const Answer answer = Ask(store, {On("{a}"), On("{b}")});
  EXPECT_FALSE(answer.decisions[0].allowed);
  EXPECT_TRUE(answer.decisions[1].allowed);
  EXPECT_TRUE(answer.decisions[1].known);
  EXPECT_EQ(Runs("evalsha"), 1);
  const Decision second = Empty(store, "{b}");
  const Answer both = Ask(store, {On("{a}"), On("{b}")});
  EXPECT_LE(both.decisions[0].retry_after, first.retry_after);
  EXPECT_EQ(both.decisions[1], second);
  EXPECT_EQ(Runs("evalsha"), 0);
}

TEST_F(DeniedTest, WhereOneRefusalIsEnoughTheOthersAreNotAsked) {
  RedisTokenBucket store(Remembering(1h), metrics_, manual_);
  const Decision refusal = Empty(store, "{a}");
  const Answer answer =
      Ask(store, {On("{b}"), On("{a}"), On("{c}")}, Action::kTake, /*complete=*/false);
  EXPECT_EQ(answer.decisions[1], refusal);
  for (const std::size_t other : {0U, 2U}) {
    EXPECT_FALSE(answer.decisions[other].known);
    EXPECT_FALSE(answer.decisions[other].allowed);
  }
  EXPECT_EQ(Runs("evalsha"), 0);
  EXPECT_EQ(Ask(store, {On("{b}", 0)}).decisions[0].remaining, 5U);
}

TEST_F(DeniedTest, WhatIsGivenThroughTheStoreIsSeenAtOnce) {
  RedisTokenBucket store(Remembering(1h), metrics_, manual_);
  Empty(store, "{user}");
  Ask(store, {On("{user}", 2)}, Action::kRefund);
  EXPECT_TRUE(Ask(store, {On("{user}")}).decisions[0].allowed);
}

TEST_F(DeniedTest, WhatComesBehindAGiftInOneCallIsAsked) {
  RedisTokenBucket store(Remembering(1h), metrics_, manual_);
  const Decision refusal = Empty(store, "{user}");
  const std::vector<Charge> one = {On("{user}")};
  std::array<Decision, 3> decisions;
  std::vector<Transaction> transactions;
  for (Decision& decision : decisions) {
    transactions.push_back({.charges = one, .decisions = {&decision, 1}});
  }
  transactions[1].action = Action::kRefund;
  store.Decide(transactions, Deadline::max());
  EXPECT_EQ(decisions[0], refusal);
  EXPECT_TRUE(decisions[2].allowed);
  EXPECT_EQ(Runs("evalsha"), 2);
}

TEST_F(DeniedTest, WhatIsGivenThroughAnotherStoreIsSeenAfterTheGreatestAge) {
  RedisTokenBucket store(Remembering(100ms), metrics_, manual_);
  RedisTokenBucket other(Remembering(100ms), metrics_, manual_);
  Empty(store, "{user}");
  Ask(other, {On("{user}", 2)}, Action::kRefund);
  manual_.Advance(100ms - 1us);
  EXPECT_FALSE(Ask(store, {On("{user}")}).decisions[0].allowed);
  manual_.Advance(1us);
  EXPECT_TRUE(Ask(store, {On("{user}")}).decisions[0].allowed);
}

class MisbehavingStoreTest : public ::testing::TestWithParam<Misbehaviour> {};

INSTANTIATE_TEST_SUITE_P(, MisbehavingStoreTest, ::testing::ValuesIn(Misbehaviours()),
                         ::testing::PrintToStringParamName());

TEST_P(MisbehavingStoreTest, ACallFailsInTime) {
  const FakeRedis server(GetParam().serve);
  Metrics metrics(0, "test");
  const SteadyClock clock;
  RedisTokenBucket store({.server = {.port = server.port()}, .timeout = kShort}, metrics, clock);
  EXPECT_LT(Elapsed([&] {
              EXPECT_THAT(Decide(store, kLimit, "user", {}, Deadline::max()),
                          FailsWith(kUnavailable, StartsWith("Redis at 127.0.0.1:")));
            }),
            2 * kShort + kMargin);
}

}  // namespace
}  // namespace ratelimiter::testing
