#include "ratelimiter/metrics/metrics_exposer.h"

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ratelimiter/base/listen.h"
#include "support/status.h"
#include "support/tcp.h"

namespace ratelimiter {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using testing::FailsWith;
using testing::Socket;
using testing::Succeeds;

std::string Get(std::uint16_t port, const std::string& path,
                const std::string& address = "127.0.0.1") {
  const Socket socket = Socket::Connect(address, port);
  socket.Write(fmt::format("GET {} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", path));
  return socket.ReadToEnd();
}

class MetricsExposerTest : public ::testing::Test {
 protected:
  Metrics metrics_{10, "1.2.3"};
};

TEST_F(MetricsExposerTest, ServesTheMetricsAsTheyAreNow) {
  const auto exposer = MetricsExposer::Start("127.0.0.1", 0, metrics_);
  ASSERT_THAT(exposer, Succeeds());
  Get(exposer->port(), "/metrics");
  metrics_.requests().Count("user \"1\"\\", RequestStatus::kDenied);
  EXPECT_THAT(
      Get(exposer->port(), "/metrics"),
      AllOf(
          StartsWith("HTTP/1.1 200 OK\r\n"),
          HasSubstr("\nrate_limiter_requests_total{user=\"user \\\"1\\\"\\\\\",status=\"denied\"} "
                    "1\n"),
          HasSubstr("\n# TYPE redis_latency_seconds histogram\n"),
          HasSubstr("\nrate_limiter_build_info{version=\"1.2.3\"} 1\n")));
  EXPECT_THAT(Get(exposer->port(), "/"), StartsWith("HTTP/1.1 404 "));
}

TEST_F(MetricsExposerTest, ListensOnEachFamilyThatItsAddressNames) {
  struct Case {
    const char* bind;
    bool ipv4;
    bool ipv6;
  };
  const bool has_ipv6 = HasIpv6();
  for (const auto& [bind, ipv4, ipv6] :
       {Case{"0.0.0.0", true, false}, Case{"127.0.0.1", true, false},
        Case{"::ffff:127.0.0.1", true, false}, Case{"::", true, true}, Case{"::1", false, true}}) {
    if (!ipv4 && !has_ipv6) continue;
    SCOPED_TRACE(bind);
    const auto exposer = MetricsExposer::Start(bind, 0, metrics_);
    ASSERT_THAT(exposer, Succeeds());
    for (const auto& [address, listens] :
         {std::pair{"127.0.0.1", ipv4}, std::pair{"::1", ipv6 && has_ipv6}}) {
      if (listens) {
        EXPECT_THAT(Get(exposer->port(), "/metrics", address), StartsWith("HTTP/1.1 200 OK\r\n"));
      } else {
        EXPECT_THROW(Socket::Connect(address, exposer->port()), std::runtime_error);
      }
    }
  }
}

TEST_F(MetricsExposerTest, AScraperThatReadsNothingKeepsNoOtherWaiting) {
  const auto exposer = MetricsExposer::Start("127.0.0.1", 0, metrics_);
  ASSERT_THAT(exposer, Succeeds());
  std::vector<Socket> stalled;
  for (int i = 0; i < 8; ++i) {
    stalled.push_back(Socket::Connect("127.0.0.1", exposer->port()));
    stalled.back().Write("GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
  }
  EXPECT_THAT(Get(exposer->port(), "/metrics"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST_F(MetricsExposerTest, ATakenPortIsAnErrorThatNamesIt) {
  const Socket taken = Socket::Listen("127.0.0.1");
  for (const char* bind : {"127.0.0.1", "0.0.0.0", "::"}) {
    EXPECT_THAT(MetricsExposer::Start(bind, taken.port(), metrics_),
                FailsWith(absl::StatusCode::kUnavailable,
                          HasSubstr(fmt::format(" port {} for metrics", taken.port()))));
  }
}

TEST_F(MetricsExposerTest, APortTakenOnIpv6AloneIsAnErrorForAllInterfaces) {
  std::optional<Socket> taken;
  try {
    taken.emplace(Socket::Listen("::1"));
  } catch (const std::runtime_error&) {
    GTEST_SKIP() << "no IPv6 here";
  }
  EXPECT_THAT(MetricsExposer::Start("::", taken->port(), metrics_),
              FailsWith(absl::StatusCode::kUnavailable, HasSubstr("already in use")));
}

TEST_F(MetricsExposerTest, SilentConnectionsKeepNoScrapeWaiting) {
  const auto exposer = MetricsExposer::Start("127.0.0.1", 0, metrics_);
  ASSERT_THAT(exposer, Succeeds());
  std::vector<Socket> silent;
  for (int i = 0; i < 8; ++i) silent.push_back(Socket::Connect("127.0.0.1", exposer->port()));
  EXPECT_THAT(Get(exposer->port(), "/metrics"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST_F(MetricsExposerTest, ASilentConnectionIsClosedInTime) {
  const auto exposer = MetricsExposer::Start("127.0.0.1", 0, metrics_);
  ASSERT_THAT(exposer, Succeeds());
  const Socket silent = Socket::Connect("127.0.0.1", exposer->port());
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(silent.ReadToEnd(), "");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(9));
}

TEST_F(MetricsExposerTest, AnAddressOfAnotherMachineIsAnErrorThatNamesIt) {
  EXPECT_THAT(MetricsExposer::Start("192.0.2.1", 0, metrics_),
              FailsWith(absl::StatusCode::kUnavailable, HasSubstr("192.0.2.1 port 0")));
}

TEST_F(MetricsExposerTest, FreesThePortWhenItEnds) {
  std::uint16_t port = 0;
  {
    const auto exposer = MetricsExposer::Start("127.0.0.1", 0, metrics_);
    ASSERT_THAT(exposer, Succeeds());
    port = exposer->port();
  }
  EXPECT_THAT(MetricsExposer::Start("127.0.0.1", port, metrics_), Succeeds());
}

}  // namespace
}  // namespace ratelimiter
