#include "ratelimiter/redis/connection.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/eventually.h"
#include "support/status.h"
#include "unit/redis/fake_redis.h"
#include "unit/redis/redis_test.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;

using ::testing::_;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

using enum absl::StatusCode;

const std::string kPing = FormatCommand({"PING"});

absl::StatusOr<Connection> Open(const RedisServer& server, Deadline deadline = In(kLong)) {
  return Connection::Open(server, {"127.0.0.1"}, deadline);
}

absl::StatusOr<Connection> Open(const TcpServer& server, Deadline deadline = In(kLong)) {
  return Open(RedisServer{.port = server.port()}, deadline);
}

absl::StatusOr<RedisReply> Receive(Connection& connection, Deadline deadline) {
  RedisReply reply;
  if (absl::Status received = connection.Receive(reply, deadline); !received.ok()) return received;
  return reply;
}

absl::StatusOr<RedisReply> Ask(Connection& connection, std::string_view command) {
  if (absl::Status sent = connection.Send(command, In(kLong)); !sent.ok()) return sent;
  return Receive(connection, In(kLong));
}

TEST(FormatCommandTest, GivesEveryArgumentWithItsLength) {
  EXPECT_EQ(FormatCommand({"SET", "", "a\r\n\0é"s}),
            "*3\r\n$3\r\nSET\r\n$0\r\n\r\n$6\r\na\r\n\0é\r\n"s);
}

TEST(RedisServerTest, ItsAddressIsWrittenWithThePort) {
  EXPECT_EQ((RedisServer{.host = "cache", .port = 1}.Address()), "cache:1");
  EXPECT_EQ((RedisServer{.host = "::1", .port = 1}.Address()), "[::1]:1");
}

TEST(RedisServerTest, ASocketsAddressIsItsPath) {
  EXPECT_EQ((RedisServer{.socket = "/run/redis.sock"}.Address()), "/run/redis.sock");
  EXPECT_EQ((RedisServer{.socket = "/run/\nforged"}.Address()), "/run/\uFFFDforged");
}

TEST(RedisServerTest, AMastersAddressIsItsNameAndTheSentinels) {
  EXPECT_EQ((RedisServer{.sentinels = {{"a", 1}, {"::1", 2}}, .master = "mymaster"}.Address()),
            "mymaster (sentinels a:1,[::1]:2)");
}

class ConnectionTest : public RedisTest {
 protected:
  void TearDown() override { server().Run({"CONFIG", "SET", "requirepass", ""}); }

  // The suite's server, with what a test changes of it.
  static RedisServer With(const std::string& user, const std::string& password) {
    RedisServer address = server().address();
    address.user = user;
    address.password = password;
    return address;
  }
};

TEST_F(ConnectionTest, AnswersInTheOrderOfTheCommands) {
  auto connection = Open(server().address());
  ASSERT_THAT(connection, Succeeds());
  ASSERT_THAT(
      connection->Send(FormatCommand({"ECHO", "1"}) + FormatCommand({"ECHO", "2"}), In(kLong)),
      Succeeds());
  EXPECT_EQ(Text(*Receive(*connection, In(kLong))), "1");
  EXPECT_EQ(Text(*Receive(*connection, In(kLong))), "2");
}

TEST_F(ConnectionTest, CarriesAnyBytes) {
  auto connection = Open(server().address());
  ASSERT_THAT(connection, Succeeds());
  for (const std::string& bytes :
       {""s, "\0\r\n$5\r\n"s, "\xFF\xFE"s, std::string(1'000'000, 'x')}) {
    EXPECT_EQ(Text(*Ask(*connection, FormatCommand({"ECHO", bytes}))), bytes);
  }
}

TEST_F(ConnectionTest, AnErrorThatRedisRepliesIsAReply) {
  auto connection = Open(server().address());
  ASSERT_THAT(connection, Succeeds());
  const auto reply = Ask(*connection, FormatCommand({"NOSUCH"}));
  ASSERT_THAT(reply, Succeeds());
  EXPECT_EQ(reply->type(), RedisReply::Type::kError);
  EXPECT_FALSE(connection->broken());
  EXPECT_THAT(Ask(*connection, kPing), Succeeds());
}

TEST_F(ConnectionTest, IsKnownByNameInRedis) {
  auto connection = Open(server().address());
  ASSERT_THAT(connection, Succeeds());
  EXPECT_EQ(Text(*Ask(*connection, FormatCommand({"CLIENT", "GETNAME"}))), "ratelimiterd");
}

TEST_F(ConnectionTest, UsesTheDatabase) {
  RedisServer address = server().address();
  address.database = 3;
  auto connection = Open(address);
  ASSERT_THAT(connection, Succeeds());
  ASSERT_THAT(Ask(*connection, FormatCommand({"SET", "key", "value"})), Succeeds());
  EXPECT_EQ(server().Run({"EXISTS", "key"}).integer(), 0);
}

TEST_F(ConnectionTest, ADatabaseThatIsNotThereIsToldAsRedisSaysIt) {
  RedisServer address = server().address();
  address.database = 99;
  EXPECT_THAT(Open(address),
              FailsWith(kUnavailable, "Redis refused SELECT: ERR DB index is out of range"));
}

TEST_F(ConnectionTest, AuthenticatesWithThePasswordAlone) {
  server().Run({"CONFIG", "SET", "requirepass", "hunter2"});
  auto connection = Open(With("", "hunter2"));
  ASSERT_THAT(connection, Succeeds());
  EXPECT_EQ(Text(*Ask(*connection, FormatCommand({"ACL", "WHOAMI"}))), "default");
}

TEST_F(ConnectionTest, AuthenticatesAsAUser) {
  server().Run({"ACL", "SETUSER", "me", "on", ">p@ss word\xFF", "+@all"});
  auto connection = Open(With("me", "p@ss word\xFF"));
  ASSERT_THAT(connection, Succeeds());
  EXPECT_EQ(Text(*Ask(*connection, FormatCommand({"ACL", "WHOAMI"}))), "me");
}

TEST_F(ConnectionTest, AMissingPasswordIsToldWithTheSetting) {
  server().Run({"CONFIG", "SET", "requirepass", "hunter2"});
  EXPECT_THAT(
      Open(server().address()),
      FailsWith(kUnavailable, EndsWith("; Redis asks for a password: set it in REDIS_URL or "
                                       "REDIS_PASSWORD_FILE")));
}

TEST_F(ConnectionTest, AWrongPasswordIsToldWithTheSettingAndWithoutThePassword) {
  server().Run({"CONFIG", "SET", "requirepass", "right"});
  for (const char* user : {"", "nobody"}) {
    EXPECT_THAT(Open(With(user, "hunter2")),
                FailsWith(kUnavailable,
                          AllOf(EndsWith("; Redis refuses the user or password of REDIS_URL or "
                                         "REDIS_PASSWORD_FILE"),
                                Not(HasSubstr("hunter2")))));
  }
}

TEST_F(ConnectionTest, ReadsThePasswordFromItsFileAtEachConnection) {
  const std::string path = ::testing::TempDir() + "password." + std::to_string(getpid());
  RedisServer address = server().address();
  address.password_file = path;
  for (const char* password : {"first", "second"}) {
    server().Run({"CONFIG", "SET", "requirepass", password});
    std::ofstream(path) << password << '\n';
    EXPECT_THAT(Open(address), Succeeds());
  }
  std::filesystem::remove(path);
  EXPECT_THAT(Open(address),
              FailsWith(kUnavailable, "cannot read " + path +
                                          ": No such file or directory (REDIS_PASSWORD_FILE)"));
}

TEST_F(ConnectionTest, ConnectsThroughAUnixSocket) {
  const std::string path = ::testing::TempDir() + "redis." + std::to_string(getpid());
  const RedisServerProcess on_socket({"--unixsocket", path});
  const RedisServer address = {.socket = path, .database = 2};
  auto connection = Connection::Open(address, {path}, In(kLong));
  ASSERT_THAT(connection, Succeeds());
  EXPECT_FALSE(connection->IsStale());
  EXPECT_THAT(Text(*Ask(*connection, FormatCommand({"CLIENT", "INFO"}))), HasSubstr(" db=2 "));
  std::filesystem::remove(path);
  EXPECT_THAT(Connection::Open(address, {path}, In(kLong)),
              FailsWith(kUnavailable, "No such file or directory"));
}

TEST_F(ConnectionTest, WhereSentinelsLeadItTakesAMasterAndNothingElse) {
  RedisServer address = server().address();
  address.sentinels = {{"a", 1}};
  EXPECT_THAT(Open(address), Succeeds());
  server().Run({"REPLICAOF", "127.0.0.1", "1"});
  EXPECT_THAT(Open(address), FailsWith(kUnavailable,
                                       "the server is no master but \"replica\": a failover is "
                                       "under way, or the sentinels are wrong"));
  server().Run({"REPLICAOF", "NO", "ONE"});
}

TEST_F(ConnectionTest, TriesTheAddressesInTurn) {
  EXPECT_THAT(Connection::Open(server().address(), {"127.0.0.2", "127.0.0.1"}, In(kLong)),
              Succeeds());
}

TEST_F(ConnectionTest, AnAddressThatDoesNotAnswerLeavesTimeForTheNext) {
  const std::uint16_t port = server().address().port;
  const Socket deaf = Socket::Listen("127.0.0.2", port, /*backlog=*/0);
  const Socket only_one_in = Socket::Connect("127.0.0.2", port);
  std::vector<std::string> addresses(20, "127.0.0.1");  // Each has its share of the time.
  addresses[0] = "127.0.0.2";
  EXPECT_THAT(Connection::Open(server().address(), addresses, In(kLong)), Succeeds());
}

TEST_F(ConnectionTest, AddressesThatDoNotAnswerFailInTime) {
  const std::uint16_t port = server().address().port;
  const Socket deaf = Socket::Listen("127.0.0.2", port, /*backlog=*/0);
  const Socket only_one_in = Socket::Connect("127.0.0.2", port);
  const std::vector<std::string> addresses(3, "127.0.0.2");
  const auto elapsed = Elapsed([&] {
    EXPECT_THAT(Connection::Open(server().address(), addresses, In(kShort)),
                FailsWith(kDeadlineExceeded, "no answer in time"));
  });
  EXPECT_GE(elapsed, kShort);
  EXPECT_LT(elapsed, kShort + kMargin);
}

TEST_F(ConnectionTest, TellsWhyTheLastAddressFailed) {
  EXPECT_THAT(Connection::Open(server().address(), {"127.0.0.1x", "127.0.0.2"}, In(kLong)),
              FailsWith(kUnavailable, "Connection refused"));
  EXPECT_THAT(Connection::Open(server().address(), {}, In(kLong)),
              FailsWith(kUnavailable, "no address"));
}

TEST_F(ConnectionTest, AnIdleOneIsOfUse) {
  auto connection = Open(server().address());
  ASSERT_THAT(connection, Succeeds());
  EXPECT_FALSE(connection->IsStale());
  ASSERT_THAT(Ask(*connection, kPing), Succeeds());
  EXPECT_FALSE(connection->IsStale());
}

TEST_F(ConnectionTest, OneThatTheServerClosedIsStale) {
  auto connection = Open(server().address());
  ASSERT_THAT(connection, Succeeds());
  CloseAll();
  EXPECT_TRUE(Eventually([&] { return connection->IsStale(); }));
}

TEST_F(ConnectionTest, OneWhoseServerDiedIsStale) {
  auto connection = Open(server().address());
  ASSERT_THAT(connection, Succeeds());
  server().Kill();
  EXPECT_TRUE(connection->IsStale());
  server().Start();
}

// The timer that runs for this machine's connection to a port, as the system tells it:
// "02:" and hundredths of a second in hexadecimal, until keepalive probes the other end.
std::string TimerTo(std::uint16_t port) {
  std::ifstream connections("/proc/self/net/tcp");
  const std::string remote = fmt::format("0100007F:{:04X}", port);
  std::string number, local, to, state, queues, timer;
  for (std::string line; std::getline(connections, line);) {
    std::istringstream(line) >> number >> local >> to >> state >> queues >> timer;
    constexpr auto kEstablished = "01";
    if (to == remote && state == kEstablished && timer.starts_with("02:")) return timer;
  }
  return "none";
}

TEST_F(ConnectionTest, TheSystemProbesAnIdleOne) {
  const RedisServerProcess other;
  const std::uint16_t port = other.address().port;
  const auto connection = Open(other.address());
  ASSERT_THAT(connection, Succeeds());
  ASSERT_TRUE(Eventually([&] { return TimerTo(port) != "none"; }));
  EXPECT_LE(std::stoi(TimerTo(port).substr(3), nullptr, 16), 1'500);
}

TEST_F(ConnectionTest, ABrokenOneIsStale) {
  auto connection = Open(server().address());
  ASSERT_THAT(connection, Succeeds());
  connection->MarkBroken();
  EXPECT_TRUE(connection->IsStale());
}

TEST(ConnectionToFakeTest, WhatNobodyAskedForMakesItStale) {
  const FakeRedis server([](const Socket& connection) {
    connection.Write("+unasked\r\n");
    connection.AwaitEnd();
  });
  auto connection = Open(server);
  ASSERT_THAT(connection, Succeeds());
  EXPECT_TRUE(Eventually([&] { return connection->IsStale(); }));
}

TEST(ConnectionToFakeTest, ASecondReplyToOneCommandMakesItStale) {
  const FakeRedis server(Answer("+PONG\r\n+unasked\r\n"));
  auto connection = Open(server);
  ASSERT_THAT(connection, Succeeds());
  ASSERT_EQ(Text(*Ask(*connection, kPing)), "PONG");
  EXPECT_TRUE(connection->IsStale());
}

TEST(ConnectionToFakeTest, AReplyThatIsThereIsTakenHoweverLate) {
  std::promise<void> said;
  const FakeRedis server([&](const Socket& connection) {
    connection.Write("+late\r\n");
    said.set_value();
    connection.AwaitEnd();
  });
  auto connection = Open(server);
  ASSERT_THAT(connection, Succeeds());
  said.get_future().wait();
  const auto reply = Receive(*connection, In(-1s));
  ASSERT_THAT(reply, Succeeds());
  EXPECT_EQ(Text(*reply), "late");
}

TEST(ConnectionToFakeTest, ALateReplyIsNotReadOn) {
  std::promise<void> said;
  const FakeRedis server([&](const Socket& connection) {
    connection.Write("+" + std::string(100'000, 'x') + "\r\n");
    said.set_value();
    connection.AwaitEnd();
  });
  auto connection = Open(server);
  ASSERT_THAT(connection, Succeeds());
  said.get_future().wait();
  EXPECT_THAT(Receive(*connection, In(-1s)), FailsWith(kDeadlineExceeded, "no answer in time"));
  EXPECT_TRUE(connection->broken());
}

TEST(ConnectionToFakeTest, ACommandThatIsNotReadFailsInTimeAndBreaksIt) {
  const FakeRedis server(StaySilent);
  auto connection = Open(server);
  ASSERT_THAT(connection, Succeeds());
  const std::string more_than_buffers_hold(64 << 20, 'x');
  EXPECT_LT(Elapsed([&] {
              EXPECT_THAT(connection->Send(more_than_buffers_hold, In(kShort)),
                          FailsWith(kDeadlineExceeded, "no answer in time"));
            }),
            kShort + kMargin);
  EXPECT_TRUE(connection->broken());
}

TEST(ConnectionToFakeTest, ARefusedConnectionIsToldAsSuch) {
  const Socket nobody = Socket::Reserve("127.0.0.1");
  EXPECT_THAT(Open(RedisServer{.port = nobody.port()}),
              FailsWith(kUnavailable, "Connection refused"));
}

TEST(ConnectionToFakeTest, RedisFrom7AndValkeyAreTaken) {
  for (const auto& hello :
       {Hello("redis", "7.0.0"), Hello("redis", "10.2.1"), Hello("valkey", "8.0.1")}) {
    EXPECT_THAT(Open(TcpServer(Answer(hello))), Succeeds()) << hello;
  }
}

TEST(ConnectionToFakeTest, AnotherServerIsToldWithWhatIsNeeded) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {Hello("redis", "6.2.14"),
       "the server is redis 6.2.14; needed: Redis 7.0 or later, or Valkey"},
      {Hello("keydb\n", "9\x1B"),
       "the server is keydb\uFFFD 9\uFFFD; needed: Redis 7.0 or later, or Valkey"},
      {"-ERR unknown command `HELLO`, with args beginning with: `2`\r\n",
       "the server does not know HELLO; needed: Redis 7.0 or later, with HELLO not renamed"},
      {"+OK\r\n", "the server is  ; needed: Redis 7.0 or later, or Valkey"},
      {"*1\r\n$6\r\nserver\r\n", "the server is  ; needed: Redis 7.0 or later, or Valkey"},
      {"*4\r\n:1\r\n:2\r\n$-1\r\n$-1\r\n",
       "the server is  ; needed: Redis 7.0 or later, or Valkey"}};
  for (const auto& [hello, message] : cases) {
    EXPECT_THAT(Open(TcpServer(Answer(hello))), FailsWith(kUnavailable, message));
  }
}

TEST(ConnectionToFakeTest, RightsAreNotTakenFromAReplyToSomethingElse) {
  for (const char* reply : {"+OK\r\n", "*0\r\n", "$-1\r\n"}) {
    const TcpServer server(Answer(Hello("redis", "7.0.0") + "+OK\r\n" + reply));
    EXPECT_THAT(Open(RedisServer{.port = server.port(), .key_prefix = "rl:1:"}),
                FailsWith(kUnavailable, "unexpected reply to the permission check"));
  }
}

TEST(ConnectionToFakeTest, ARefusalIsToldAsRedisSaysIt) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"-LOADING Redis is loading the dataset in memory\r\n",
       "Redis refused HELLO: LOADING Redis is loading the dataset in memory; Redis still reads its "
       "data from disk"},
      {"-ERR max number of clients reached\r\n",
       "Redis refused HELLO: ERR max number of clients reached; raise Redis's maxclients"},
      {"-NOAUTH HELLO must be called with the client already authenticated\r\n",
       "Redis refused HELLO: NOAUTH HELLO must be called with the client already authenticated; "
       "Redis asks for a password: set it in REDIS_URL or REDIS_PASSWORD_FILE"},
      {"-WRONGPASS invalid username-password pair\r\n",
       "Redis refused HELLO: WRONGPASS invalid username-password pair; Redis refuses the user or "
       "password of REDIS_URL or REDIS_PASSWORD_FILE"},
      {"-ERR \x1B[31m" + std::string(1'000, 'x') + "\r\n",
       "Redis refused HELLO: ERR \uFFFD[31m" + std::string(189, 'x')}};
  for (const auto& [answer, message] : cases) {
    EXPECT_THAT(Open(TcpServer(Answer(answer))), FailsWith(kUnavailable, message));
  }
}

class MisbehavingServerTest : public ::testing::TestWithParam<Misbehaviour> {
 protected:
  static Deadline Given() { return In(GetParam().until_deadline ? kShort : kLong); }
  static absl::StatusCode Error() {
    return GetParam().until_deadline ? kDeadlineExceeded : kUnavailable;
  }
};

INSTANTIATE_TEST_SUITE_P(, MisbehavingServerTest, ::testing::ValuesIn(Misbehaviours()),
                         ::testing::PrintToStringParamName());

TEST_P(MisbehavingServerTest, ConnectingFailsInTime) {
  const TcpServer server(GetParam().serve);
  EXPECT_LT(Elapsed([&] { EXPECT_THAT(Open(server, Given()), FailsWith(Error(), _)); }),
            kShort + kMargin);
}

TEST_P(MisbehavingServerTest, ReceivingFailsInTimeAndBreaksTheConnection) {
  const FakeRedis server(GetParam().serve);
  auto connection = Open(server);
  ASSERT_THAT(connection, Succeeds());
  EXPECT_LT(Elapsed([&] {
              // To a server that has closed already, it may be the sending that fails.
              if (!connection->Send(kPing, In(kLong)).ok()) return;
              EXPECT_THAT(Receive(*connection, Given()), FailsWith(Error(), _));
            }),
            kShort + kMargin);
  EXPECT_TRUE(connection->broken());
  EXPECT_TRUE(connection->IsStale());
}

}  // namespace
}  // namespace ratelimiter::testing
