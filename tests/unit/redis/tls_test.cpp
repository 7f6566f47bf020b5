#include "ratelimiter/redis/tls.h"

#include <openssl/ssl.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ratelimiter/redis/connection.h"
#include "support/certificates.h"
#include "support/eventually.h"
#include "support/status.h"
#include "unit/redis/fake_redis.h"
#include "unit/redis/fake_tls_redis.h"
#include "unit/redis/redis_test.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

using enum absl::StatusCode;

const std::string kPing = FormatCommand({"PING"});

absl::StatusOr<RedisReply> Receive(Connection& connection, Deadline deadline) {
  RedisReply reply;
  if (absl::Status received = connection.Receive(reply, deadline); !received.ok()) return received;
  return reply;
}

absl::StatusOr<RedisReply> Ask(Connection& connection, std::string_view command) {
  if (absl::Status sent = connection.Send(command, In(kLong)); !sent.ok()) return sent;
  return Receive(connection, In(kLong));
}

TlsOptions Trusting(const std::string& ca) { return {.ca_file = Certificate(ca)}; }

TlsOptions As(const std::string& client) {
  return {.ca_file = Certificate("ca"),
          .certificate_file = Certificate(client),
          .key_file = KeyOf(client)};
}

absl::StatusOr<Connection> Open(std::uint16_t port, const TlsOptions& options,
                                const std::string& host = "localhost",
                                Deadline deadline = In(kLong)) {
  const auto context = TlsContext::Create(options);
  if (!context.ok()) return context.status();
  return Connection::Open({.host = host, .port = port, .tls = *context}, {"127.0.0.1"}, deadline);
}

absl::StatusOr<Connection> Open(const TcpServer& server) {
  return Open(server.port(), Trusting("ca"));
}

// --- Against a real Redis ---

// A redis-server that speaks TLS on a port besides, of the version that is the parameter.
class TlsTest : public ::testing::TestWithParam<std::string> {
 protected:
  static void SetUpTestSuite() {
    port_ = std::make_unique<Socket>(Socket::Reserve("127.0.0.1"));
    server_ = std::make_unique<RedisServerProcess>(std::vector<std::string>{
        "--tls-port", std::to_string(port()), "--tls-cert-file", Certificate("localhost"),
        "--tls-key-file", KeyOf("localhost"), "--tls-ca-cert-file", Certificate("ca")});
  }
  static void TearDownTestSuite() {
    server_.reset();
    port_.reset();
  }
  static RedisServerProcess& server() { return *server_; }
  static std::uint16_t port() { return port_->port(); }

  void SetUp() override {
    Present("localhost");
    server().Run({"CONFIG", "SET", "tls-protocols", GetParam()});
    AskForCertificates("no");
  }

  static void Present(const std::string& certificate) {
    server().Run({"CONFIG", "SET", "tls-cert-file", Certificate(certificate), "tls-key-file",
                  KeyOf(certificate)});
  }
  static void AskForCertificates(std::string_view yes_or_no) {
    server().Run({"CONFIG", "SET", "tls-auth-clients", yes_or_no});
  }

 private:
  static inline std::unique_ptr<Socket> port_;
  static inline std::unique_ptr<RedisServerProcess> server_;
};

INSTANTIATE_TEST_SUITE_P(, TlsTest, ::testing::Values("TLSv1.2", "TLSv1.3"),
                         [](const auto& version) { return "With1Point"s + version.param.back(); });

TEST_P(TlsTest, CarriesAnyBytesInTheOrderOfTheCommands) {
  auto connection = Open(port(), Trusting("ca"));
  ASSERT_THAT(connection, Succeeds());
  const std::vector<std::string> texts = {"\0\r\n$5\r\n"s, std::string(1'000'000, 'x'), ""s,
                                          std::string(16'384, 'y'), "z"s};
  std::string commands;
  for (const std::string& text : texts) commands += FormatCommand({"ECHO", text});
  ASSERT_THAT(connection->Send(commands, In(kLong)), Succeeds());
  for (const std::string& text : texts) {
    const auto reply = Receive(*connection, In(kLong));
    ASSERT_THAT(reply, Succeeds());
    EXPECT_EQ(reply->text(), text);
  }
  EXPECT_FALSE(connection->IsStale());
}

TEST_P(TlsTest, AnIdleConnectionIsOfUseUntilTheServerClosesIt) {
  auto connection = Open(port(), Trusting("ca"));
  ASSERT_THAT(connection, Succeeds());
  EXPECT_FALSE(connection->IsStale());
  ASSERT_THAT(Ask(*connection, kPing), Succeeds());
  EXPECT_FALSE(connection->IsStale());
  server().Run({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
  EXPECT_TRUE(Eventually([&] { return connection->IsStale(); }));
}

TEST_P(TlsTest, AServerThatStandsStillFailsInTime) {
  auto connection = Open(port(), Trusting("ca"));
  ASSERT_THAT(connection, Succeeds());
  server().process().Stop();
  EXPECT_LT(Elapsed([&] {
              EXPECT_THAT(Open(port(), Trusting("ca"), "localhost", In(kShort)),
                          FailsWith(kDeadlineExceeded, StartsWith("no answer in time to TLS")));
            }),
            kShort + kMargin);
  const std::string more_than_buffers_hold(64 << 20, 'x');
  EXPECT_LT(Elapsed([&] {
              EXPECT_THAT(connection->Send(more_than_buffers_hold, In(kShort)),
                          FailsWith(kDeadlineExceeded, "no answer in time"));
            }),
            kShort + kMargin);
  EXPECT_TRUE(connection->IsStale());
  server().process().Signal(SIGCONT);
}

TEST_P(TlsTest, TheCertificateMustBeForTheHostOrForTheNameThatIsGiven) {
  EXPECT_THAT(Open(port(), Trusting("ca"), "127.0.0.1"), Succeeds());
  constexpr auto kWrong =
      "the server's certificate is not accepted: it is for another name; REDIS_TLS_SERVER_NAME is "
      "the name it must have, if that is not the host in REDIS_URL";
  EXPECT_THAT(Open(port(), Trusting("ca"), "elsewhere.test"), FailsWith(kUnavailable, kWrong));
  EXPECT_THAT(Open(port(), Trusting("ca"), "127.0.0.2"), FailsWith(kUnavailable, kWrong));
  Present("elsewhere");
  EXPECT_THAT(Open(port(), Trusting("ca")), FailsWith(kUnavailable, kWrong));
  for (const char* name : {"elsewhere.test", "192.0.2.1"}) {
    TlsOptions named = Trusting("ca");
    named.server_name = name;
    EXPECT_THAT(Open(port(), named), Succeeds()) << name;
  }
}

TEST_P(TlsTest, ACertificateOfAnUnknownCaIsNotAccepted) {
  constexpr auto kUnknown =
      "the server's certificate is not accepted: its CA is not trusted; REDIS_TLS_CA is the file "
      "of the CAs that are";
  EXPECT_THAT(Open(port(), Trusting("other-ca")), FailsWith(kUnavailable, kUnknown));
  // Those of the system.
  EXPECT_THAT(Open(port(), TlsOptions{}), FailsWith(kUnavailable, kUnknown));
  Present("stranger");
  EXPECT_THAT(Open(port(), Trusting("ca")), FailsWith(kUnavailable, kUnknown));
}

TEST_P(TlsTest, ACertificateThatExpiredIsNotAccepted) {
  Present("expired");
  EXPECT_THAT(Open(port(), Trusting("ca")),
              FailsWith(kUnavailable,
                        "the server's certificate is not accepted: it, or its CA's, "
                        "has expired: renew it at the server"));
}

TEST_P(TlsTest, AServerThatAsksForACertificateGetsOurs) {
  AskForCertificates("yes");
  EXPECT_THAT(Open(port(), As("client")), Succeeds());
}

TEST_P(TlsTest, ACertificateThatIsMissingIsToldWithTheSettings) {
  AskForCertificates("yes");
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(Open(port(), Trusting("ca")),
                FailsWith(kUnavailable, AllOf(StartsWith("TLS failed: "),
                                              HasSubstr("for a certificate of ours: "),
                                              EndsWith("REDIS_TLS_CERT and REDIS_TLS_KEY"))));
  }
}

TEST_P(TlsTest, ACertificateThatTheServerRefusesIsToldWithTheSetting) {
  AskForCertificates("yes");
  for (const char* client : {"stranger", "expired"}) {
    EXPECT_THAT(Open(port(), As(client)),
                FailsWith(kUnavailable, AllOf(StartsWith("TLS failed: "),
                                              EndsWith("the server refuses the certificate of "
                                                       "REDIS_TLS_CERT"))));
  }
}

TEST_P(TlsTest, AServerWithTlsIsToldAsSuchToOneWithout) {
  EXPECT_THAT(Connection::Open({.port = port()}, {"127.0.0.1"}, In(kLong)),
              FailsWith(kUnavailable, EndsWith("; if the server speaks TLS, REDIS_URL must begin "
                                               "with rediss://")));
}

// --- What a session does for itself ---

class TlsUpkeepTest : public ::testing::Test {
 protected:
  // A server that does `upkeep` once the connection is there, and then answers.
  void Connect(const std::function<void(SSL* session)>& upkeep) {
    server_ = std::make_unique<FakeTlsRedis>([this, upkeep](const TlsPeer& peer) {
      upkeep(peer.session());
      done_.set_value();
      if (!peer.Read().empty()) peer.Write("+PONG\r\n");
    });
    auto opened = Open(*server_);
    ASSERT_THAT(opened, Succeeds());
    connection_ = std::make_unique<Connection>(*std::move(opened));
    done_.get_future().wait();
  }
  Connection& connection() { return *connection_; }

 private:
  std::promise<void> done_;
  std::unique_ptr<FakeTlsRedis> server_;
  std::unique_ptr<Connection> connection_;
};

TEST_F(TlsUpkeepTest, ATicketThatComesUnaskedHarmsNothing) {
  Connect([](SSL* session) {
    SSL_new_session_ticket(session);
    SSL_do_handshake(session);
  });
  EXPECT_FALSE(connection().IsStale());
  EXPECT_EQ(Text(*Ask(connection(), kPing)), "PONG");
}

TEST_F(TlsUpkeepTest, ATicketThatComesBeforeTheReplyHarmsNothing) {
  Connect([](SSL* session) {
    SSL_new_session_ticket(session);
    SSL_do_handshake(session);
  });
  EXPECT_EQ(Text(*Ask(connection(), kPing)), "PONG");
}

TEST_F(TlsUpkeepTest, NewKeysHarmNothing) {
  Connect([](SSL* session) {
    SSL_key_update(session, SSL_KEY_UPDATE_REQUESTED);
    SSL_do_handshake(session);
  });
  EXPECT_FALSE(connection().IsStale());
  EXPECT_EQ(Text(*Ask(connection(), kPing)), "PONG");
}

TEST_F(TlsUpkeepTest, WhatNobodyAskedForMakesItStale) {
  Connect([](SSL* session) { SSL_write(session, "+unasked\r\n", 10); });
  EXPECT_TRUE(Eventually([&] { return connection().IsStale(); }));
}

TEST_F(TlsUpkeepTest, TheSessionsEndMakesItStale) {
  Connect([](SSL* session) { SSL_shutdown(session); });
  EXPECT_TRUE(Eventually([&] { return connection().IsStale(); }));
}

TEST(TlsToFakeTest, AReplyThatNeverEndsFailsInTime) {
  for (const auto& [start, part] : std::vector<std::pair<std::string, std::string>>{
           {"+", "x"}, {"$500000000\r\n", std::string(1 << 20, 'x')}}) {
    const FakeTlsRedis server([&](const TlsPeer& peer) {
      const Deadline give_up = In(kLong);
      peer.Write(start);
      while (std::chrono::steady_clock::now() < give_up && peer.Write(part)) continue;
    });
    auto connection = Open(server);
    ASSERT_THAT(connection, Succeeds());
    EXPECT_LT(Elapsed([&] {
                EXPECT_THAT(Receive(*connection, In(kShort)),
                            FailsWith(kDeadlineExceeded, "no answer in time"));
              }),
              kShort + kMargin);
    connection = absl::UnknownError("closed");  // Before the server, which waits for that.
  }
}

TEST(TlsToFakeTest, AServerWithoutTlsIsToldAsSuch) {
  EXPECT_THAT(Open(TcpServer(Answer("-ERR unknown command\r\n"))),
              FailsWith(kUnavailable, EndsWith("; the server does not speak TLS; without it, "
                                               "REDIS_URL begins with redis://")));
  const TcpServer silent(StaySilent);
  EXPECT_THAT(Open(silent.port(), Trusting("ca"), "localhost", In(kShort)),
              FailsWith(kDeadlineExceeded,
                        "no answer in time to TLS, which the server may not speak: without it, "
                        "REDIS_URL begins with redis://"));
}

TEST(TlsToFakeTest, AHandshakeThatIsBrokenOffFails) {
  EXPECT_THAT(Open(TcpServer([](const Socket& connection) { connection.Read(); })),
              FailsWith(kUnavailable, "Server closed the connection"));
}

// --- Files ---

TEST(TlsFilesTest, ThoseThatCanBeUsedAreSaidTo) {
  EXPECT_THAT(TlsContext::Create({}), Succeeds());
  EXPECT_THAT(TlsContext::Create(As("client")), Succeeds());
}

TEST(TlsFilesTest, OneThatCannotBeUsedIsToldWithTheSettingAndWhatIsAccepted) {
  const std::filesystem::path folder = std::filesystem::path(Certificate("ca")).parent_path();
  const std::string text = folder / "text";
  std::ofstream(text) << "s3cret\n";
  const std::string pipe = folder / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const std::string ours = Certificate("client");
  // What is wrong is told in words of OpenSSL's, which differ with its versions.
  const std::vector<std::pair<TlsOptions, std::string>> cases = {
      {{.ca_file = "/missing"}, "REDIS_TLS_CA: /missing: No such file or directory; "},
      {{.ca_file = folder}, "REDIS_TLS_CA: " + folder.string() + ": it is not a regular file; "},
      {{.ca_file = pipe}, "REDIS_TLS_CA: " + pipe + ": it is not a regular file; "},
      {{.ca_file = text}, "REDIS_TLS_CA: " + text + ": "},
      {{.certificate_file = text, .key_file = KeyOf("client")}, "REDIS_TLS_CERT: " + text + ": "},
      {{.certificate_file = ours, .key_file = text}, "REDIS_TLS_KEY: " + text + ": "},
      {{.certificate_file = ours, .key_file = KeyOf("localhost")},
       "REDIS_TLS_KEY: " + KeyOf("localhost") + ": key values mismatch; "},
      {{.certificate_file = ours, .key_file = KeyOf("locked")},
       "REDIS_TLS_KEY: " + KeyOf("locked") + ": "}};
  for (const auto& [options, message] : cases) {
    EXPECT_THAT(TlsContext::Create(options),
                FailsWith(absl::StatusCode::kFailedPrecondition,
                          AllOf(StartsWith(message), HasSubstr("; accepted: a file "),
                                Not(HasSubstr("s3cret")))));
  }
}

TEST(TlsFilesTest, ACertificateAndItsKeyComeTogether) {
  for (const TlsOptions& options : {TlsOptions{.certificate_file = Certificate("client")},
                                    TlsOptions{.key_file = KeyOf("client")}}) {
    EXPECT_THAT(TlsContext::Create(options),
                FailsWith(absl::StatusCode::kFailedPrecondition,
                          "REDIS_TLS_CERT, REDIS_TLS_KEY: one is set without the other; accepted: "
                          "both, or none"));
  }
}

TEST(TlsFilesTest, CertificateAndKeyAreReadAtEachConnection) {
  const FakeTlsRedis server([](const TlsPeer& /*peer*/) {});
  const std::string path = ::testing::TempDir() + "client." + std::to_string(getpid());
  std::filesystem::copy_file(Certificate("client"), path);
  const auto context = TlsContext::Create(
      {.ca_file = Certificate("ca"), .certificate_file = path, .key_file = KeyOf("client")});
  ASSERT_THAT(context, Succeeds());
  const RedisServer address = {.host = "localhost", .port = server.port(), .tls = *context};
  EXPECT_THAT(Connection::Open(address, {"127.0.0.1"}, In(kLong)), Succeeds());
  std::filesystem::remove(path);
  EXPECT_THAT(Connection::Open(address, {"127.0.0.1"}, In(kLong)),
              FailsWith(kUnavailable, StartsWith("REDIS_TLS_CERT: " + path + ": No such file")));
}

}  // namespace
}  // namespace ratelimiter::testing
