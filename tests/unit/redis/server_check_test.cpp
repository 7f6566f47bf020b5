// What the daemon finds out about a server before it touches a bucket there: the user's
// rights, commands disabled by rename-command, and the eviction of keys.

#include <regex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/redis/connection.h"
#include "ratelimiter/redis/redis_token_bucket.h"
#include "ratelimiter/redis/script.h"
#include "support/decide.h"
#include "support/redis_server.h"
#include "support/status.h"
#include "unit/redis/redis_test.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

using enum absl::StatusCode;

absl::StatusOr<Connection> Open(const RedisServer& server) {
  return Connection::Open(server, {"127.0.0.1"}, In(kLong));
}

// The rights that docs/operate/failures.md lists, but for the password.
const std::vector<std::string> kRights = {"~rl:*",      "+evalsha",     "+script|load", "+time",
                                          "+hmget",     "+hset",        "+hkeys",       "+hdel",
                                          "+pexpireat", "+pexpiretime", "+del",         "+select"};

class RightsTest : public RedisTest {
 protected:
  void TearDown() override { server().Run({"ACL", "DELUSER", "me"}); }

  // Connects as a user with these rights.
  static absl::StatusOr<Connection> OpenWith(const std::vector<std::string>& rights) {
    server().Run({"ACL", "SETUSER", "me", "reset", "on", "nopass"});
    for (const std::string& right : rights) server().Run({"ACL", "SETUSER", "me", right});
    RedisServer address = server().address();
    address.user = "me";
    address.password = "any";
    address.database = 1;
    address.key_prefix = "rl:1:";
    return Open(address);
  }

  static std::vector<std::string> Without(const std::string& right) {
    std::vector<std::string> rights = kRights;
    std::erase(rights, right);
    return rights;
  }

  static auto Lacks(const std::string& rights) {
    return FailsWith(
        kUnavailable,
        "Redis user \"me\" of REDIS_URL lacks rights; grant with ACL SETUSER: " + rights);
  }
};

TEST_F(RightsTest, ThoseOfThePageAreEnough) { EXPECT_THAT(OpenWith(kRights), Succeeds()); }

TEST_F(RightsTest, EachThatIsMissingIsToldAndNoKeyIsTouched) {
  for (const std::string& right : kRights) {
    EXPECT_THAT(OpenWith(Without(right)), Lacks(right == "~rl:*" ? "~rl:1:*" : right));
  }
  EXPECT_EQ(Runs("hmget") + Runs("hset") + Runs("del"), 0);
  EXPECT_THAT(Text(server().Run({"INFO", "keyspace"})), Not(HasSubstr("db")));
}

TEST_F(RightsTest, AllThatAreMissingAreToldAtOnce) {
  std::vector<std::string> rights = Without("+hset");
  std::erase(rights, "+del");
  EXPECT_THAT(OpenWith(rights), Lacks("+hset +del"));
}

TEST_F(RightsTest, KeysThatMayOnlyBeReadAreNotEnough) {
  std::vector<std::string> rights = Without("~rl:*");
  rights.emplace_back("%R~rl:*");
  EXPECT_THAT(OpenWith(rights), Lacks("~rl:1:*"));
}

TEST_F(RightsTest, TheDefaultUserMayLackSomeToo) {
  server().Run({"ACL", "SETUSER", "default", "-time"});
  RedisServer address = server().address();
  EXPECT_THAT(Open(address), Succeeds()) << "nothing is wanted there";
  address.key_prefix = "rl:1:";
  EXPECT_THAT(Open(address),
              FailsWith(kUnavailable, AllOf(HasSubstr("user \"default\""), EndsWith(": +time"))));
  server().Run({"ACL", "SETUSER", "default", "+time"});
}

TEST_F(RightsTest, EvalServesWhereScriptLoadOrEvalshaIsNotAllowed) {
  for (const char* forbidden : {"+script|load", "+evalsha"}) {
    std::vector<std::string> rights = Without(forbidden);
    rights.emplace_back("+eval");
    const auto connection = OpenWith(rights);
    ASSERT_THAT(connection, Succeeds()) << forbidden;
    EXPECT_EQ(connection->may_load_scripts(), forbidden != "+script|load"s);
    EXPECT_EQ(connection->may_evalsha(), forbidden != "+evalsha"s);
    std::erase(rights, "+hset");
    EXPECT_THAT(OpenWith(rights), Lacks("+hset")) << forbidden;
  }
  std::vector<std::string> rights = Without("+script|load");
  std::erase(rights, "+evalsha");
  EXPECT_THAT(OpenWith(rights), Lacks("+script|load +evalsha"));
}

TEST_F(RightsTest, AreThoseThatTheTokenBucketScriptNeeds) {
  const auto found = [](const std::string& source, const std::regex& command) {
    std::set<std::string> commands;
    for (std::sregex_iterator at(source.begin(), source.end(), command), end; at != end; ++at) {
      commands.insert((*at)[1]);
    }
    return commands;
  };
  EXPECT_EQ(found(ServerCheckScript().source, std::regex(R"(\n  \{'([A-Z]+)')")),
            found(TokenBucketScript().source, std::regex(R"(call\('([A-Z]+)')")));
}

class EvictionTest : public RightsTest {
 protected:
  void TearDown() override {
    server().Run({"CONFIG", "SET", "maxmemory", "0"});
    server().Run({"CONFIG", "SET", "maxmemory-policy", "noeviction"});
    RightsTest::TearDown();
  }

  static std::string EvictsBy(const std::vector<std::string>& rights) {
    const auto connection = OpenWith(rights);
    EXPECT_THAT(connection, Succeeds());
    return connection.ok() ? connection->evicts_by() : "?";
  }
};

TEST_F(EvictionTest, IsKnownToAUserWhoMayAsk) {
  std::vector<std::string> rights = kRights;
  rights.emplace_back("+info");
  EXPECT_EQ(EvictsBy(rights), "");
  server().Run({"CONFIG", "SET", "maxmemory-policy", "volatile-ttl"});
  EXPECT_EQ(EvictsBy(rights), "") << "never without maxmemory";
  server().Run({"CONFIG", "SET", "maxmemory", "1gb"});
  EXPECT_EQ(EvictsBy(rights), "volatile-ttl");
  EXPECT_EQ(EvictsBy(kRights), "");
  EXPECT_EQ(server().Run({"ACL", "LOG"}).integer(), 0) << "nor has anybody been refused";
  server().Run({"CONFIG", "SET", "maxmemory-policy", "noeviction"});
  EXPECT_EQ(EvictsBy(rights), "");
}

// A server where rename-command disables some commands.
class RenamedCommandsTest : public ::testing::Test {
 protected:
  static std::vector<std::string> Renames(const std::vector<std::string>& commands) {
    std::vector<std::string> arguments;
    for (const std::string& command : commands) {
      arguments.insert(arguments.end(), {"--rename-command", command, ""});
    }
    return arguments;
  }

  // Connects to such a server, as the store does.
  static absl::StatusOr<Connection> OpenWithout(const std::vector<std::string>& commands,
                                                bool cluster_node = false) {
    const RedisServerProcess server(Renames(commands));
    RedisServer address = server.address();
    address.key_prefix = "rl:1:";
    address.cluster_node = cluster_node;
    address.database = cluster_node ? 0 : 1;
    return Open(address);
  }

  // Takes two tokens from buckets of such a server, which forgets its scripts between.
  static void ExpectDecisionsWithout(const std::vector<std::string>& commands,
                                     const RedisReply::Type flushed) {
    RedisServerProcess server(Renames(commands));
    Metrics metrics{0, "test"};
    SteadyClock clock;
    RedisTokenBucket store({.server = server.address(), .timeout = kLong}, metrics, clock);
    for (const std::uint64_t left : {4U, 3U}) {
      const auto decision = Decide(store, {"default", 5, 1, 24h}, "user", {}, Deadline::max());
      ASSERT_THAT(decision, Succeeds()) << commands.front();
      EXPECT_EQ(decision->remaining, left);
      EXPECT_EQ(server.Run({"SCRIPT", "FLUSH"}).type(), flushed);
    }
  }

  static auto Lacks(const std::string& commands) {
    return FailsWith(kUnavailable,
                     "Redis lacks commands, disabled or renamed by rename-command: " + commands);
  }
};

TEST_F(RenamedCommandsTest, InfoIsOptional) { EXPECT_THAT(OpenWithout({"INFO"}), Succeeds()); }

TEST_F(RenamedCommandsTest, AllThatAreNeededAreNamed) {
  EXPECT_THAT(
      OpenWithout({"TIME", "HMGET", "HSET", "HKEYS", "HDEL", "PEXPIREAT", "PEXPIRETIME", "DEL"}),
      Lacks("TIME HMGET HSET HKEYS HDEL PEXPIREAT PEXPIRETIME DEL"));
  EXPECT_THAT(OpenWithout({"SELECT"}), Lacks("SELECT"));
}

TEST_F(RenamedCommandsTest, AClustersNodeNeedsThoseThatMoveSlots) {
  EXPECT_THAT(OpenWithout({"ASKING", "MIGRATE", "RESTORE-ASKING", "SELECT"}, /*cluster_node=*/true),
              Lacks("ASKING MIGRATE RESTORE-ASKING SELECT"));
}

TEST_F(RenamedCommandsTest, EvalServesWithoutScriptLoadOrEvalsha) {
  ExpectDecisionsWithout({"SCRIPT"}, RedisReply::Type::kError);
  ExpectDecisionsWithout({"EVALSHA"}, RedisReply::Type::kStatus);
  ExpectDecisionsWithout({"SCRIPT", "EVALSHA"}, RedisReply::Type::kError);
}

TEST_F(RenamedCommandsTest, WithoutAnyWayToRunAScriptAllAreNamed) {
  EXPECT_THAT(OpenWithout({"SCRIPT", "EVALSHA", "EVAL"}), Lacks("SCRIPT LOAD EVALSHA"));
}

TEST_F(RenamedCommandsTest, RightsAndCommandsAreNamedTogether) {
  RedisServerProcess server(Renames({"HSET"}));
  server.Run({"ACL", "SETUSER", "default", "-time"});
  RedisServer address = server.address();
  address.key_prefix = "rl:1:";
  EXPECT_THAT(
      Open(address),
      FailsWith(kUnavailable,
                "Redis user \"default\" of REDIS_URL lacks rights; grant with ACL SETUSER: "
                "+time; Redis lacks commands, disabled or renamed by rename-command: HSET"));
}

}  // namespace
}  // namespace ratelimiter::testing
