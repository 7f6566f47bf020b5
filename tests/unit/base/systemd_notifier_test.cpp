#include "ratelimiter/base/systemd_notifier.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ratelimiter {
namespace {

using ::testing::MatchesRegex;

constexpr std::chrono::hours kDay{24};

// With the socket at which systemd would listen. Its name is of the kind that is no file.
class SystemdNotifierTest : public ::testing::Test {
 protected:
  SystemdNotifierTest() : socket_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    const std::string name = fmt::format("ratelimiter-notify-{}", getpid());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    name.copy(&address.sun_path[1], name.size());
    const std::size_t size = offsetof(sockaddr_un, sun_path) + 1 + name.size();
    EXPECT_EQ(
        bind(socket_, reinterpret_cast<const sockaddr*>(&address), static_cast<socklen_t>(size)),
        0);
    setenv("NOTIFY_SOCKET", ('@' + name).c_str(), 1);
    unsetenv("WATCHDOG_PID");
    unsetenv("WATCHDOG_USEC");
  }
  ~SystemdNotifierTest() override {
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    close(socket_);
  }

  // Empty: nothing has come.
  std::string Heard() const {
    std::array<char, 4096> buffer{};
    const ssize_t size = recv(socket_, buffer.data(), buffer.size(), 0);
    return {buffer.data(), size < 0 ? 0 : static_cast<std::size_t>(size)};
  }

 private:
  const int socket_;
};

TEST_F(SystemdNotifierTest, TellsEachState) {
  const SystemdNotifier systemd;
  systemd.Ready("serving");
  EXPECT_EQ(Heard(), "READY=1\nWATCHDOG=1\nSTATUS=serving");
  systemd.Reloading();
  EXPECT_THAT(Heard(), MatchesRegex("RELOADING=1\nMONOTONIC_USEC=[0-9]+\nSTATUS=[A-Z][a-z ]+"));
  systemd.Alive("still serving");
  EXPECT_EQ(Heard(), "WATCHDOG=1\nSTATUS=still serving");
  systemd.Stopping("draining", std::chrono::seconds(10));
  EXPECT_EQ(Heard(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=15000000\nSTATUS=draining");
}

TEST_F(SystemdNotifierTest, AStatusIsOneShortLine) {
  SystemdNotifier().Alive("Redis says:\nMAINPID=1");
  EXPECT_EQ(Heard(), "WATCHDOG=1\nSTATUS=Redis says:\uFFFDMAINPID=1");
  SystemdNotifier().Alive(std::string(100'000, 'x'));
  EXPECT_EQ(Heard().size(), std::string("WATCHDOG=1\nSTATUS=").size() + 1024);
}

TEST_F(SystemdNotifierTest, ItsPaceIsTwiceThatOfTheWatchdog) {
  EXPECT_EQ(SystemdNotifier().pace(), kDay);
  setenv("WATCHDOG_USEC", "3000000", 1);
  EXPECT_EQ(SystemdNotifier().pace(), std::chrono::milliseconds(1500));
  setenv("WATCHDOG_USEC", "no number", 1);
  EXPECT_EQ(SystemdNotifier().pace(), kDay);
}

TEST_F(SystemdNotifierTest, TheWatchdogOfAnotherProcessIsNotItsOwn) {
  setenv("WATCHDOG_USEC", "3000000", 1);
  setenv("WATCHDOG_PID", "1", 1);
  EXPECT_EQ(SystemdNotifier().pace(), kDay);
  unsetenv("WATCHDOG_PID");
}

TEST_F(SystemdNotifierTest, WithoutSystemdNothingHappens) {
  unsetenv("NOTIFY_SOCKET");
  const SystemdNotifier systemd;
  systemd.Ready("serving");
  systemd.Reloading();
  systemd.Alive("serving");
  systemd.Stopping("draining", std::chrono::seconds(10));
  EXPECT_EQ(Heard(), "");
  EXPECT_EQ(systemd.pace(), kDay);
}

}  // namespace
}  // namespace ratelimiter
