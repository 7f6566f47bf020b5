#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/status/statusor.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/redis/redis_token_bucket.h"
#include "redis/slot_map.h"
#include "support/decide.h"
#include "support/eventually.h"
#include "support/status.h"
#include "support/tcp.h"
#include "unit/redis/redis_test.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;

using ::testing::HasSubstr;

using enum absl::StatusCode;

const NamedSpec kLimit = {"default", 5, 1, 24h};

// Allowed, and four tokens left.
const std::string kDecision = "*4\r\n:1\r\n:4\r\n:0\r\n:1\r\n";

std::string Text(std::string_view text) { return fmt::format("${}\r\n{}\r\n", text.size(), text); }

// What a node says of an epoch in which one master has all slots.
std::string Slots(int epoch, std::uint16_t master) {
  return Text(fmt::format("cluster_current_epoch:{}\r\n", epoch)) +
         fmt::format("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n{}:{}\r\n", Text("127.0.0.1"), master);
}

// A server that introduces itself as a Cluster's node, gives us all rights where we ask
// for them, and says the same to all that it is asked then, one write after the other.
class Node {
 public:
  explicit Node(std::string text)
      : says_(std::move(text)), server_([this](const Socket& connection) {
          const std::string introduction = connection.Read();
          if (introduction.empty()) return;
          connection.Write(
              FormatCommand({"server", "redis", "version", "7.0.0", "mode", "cluster"}));
          if (introduction.find("SCRIPT") != std::string::npos) {
            connection.Write(Text("its SHA-1") + FormatCommand({"noeviction"}));
          }
          while (!connection.Read().empty()) {
            ++asked_;
            connection.Write(says());
          }
        }) {}

  HostPort address() const { return {"127.0.0.1", server_.port()}; }
  std::uint16_t port() const { return server_.port(); }
  int asked() const { return asked_; }

  void Say(std::string text) {
    const std::lock_guard lock(mutex_);
    says_ = std::move(text);
  }

 private:
  std::string says() const {
    const std::lock_guard lock(mutex_);
    return says_;
  }

  mutable std::mutex mutex_;
  std::string says_;  // Guarded by mutex_.
  std::atomic<int> asked_ = 0;
  TcpServer server_;  // Last, for it uses the others.
};

class ClusterTest : public ::testing::Test {
 protected:
  static RedisOptions At(std::vector<HostPort> nodes) {
    return {.server = {.cluster = std::move(nodes)}, .timeout = kLong};
  }

  static absl::StatusOr<Decision> Take(RedisTokenBucket& store) {
    return Decide(store, kLimit, "user", {}, Deadline::max());
  }

  SteadyClock clock_;
  Metrics metrics_{0, "test"};
};

TEST_F(ClusterTest, ACallGoesToWhoHasItsSlot) {
  Node master(kDecision);
  Node seed(Slots(1, master.port()));
  RedisTokenBucket store(At({seed.address()}), metrics_, clock_);
  ASSERT_THAT(Take(store), Succeeds());
  EXPECT_EQ(master.asked(), 1);
}

TEST_F(ClusterTest, ACallIsSentOnToWhomItsMasterNames) {
  Node other(kDecision);
  Node master(fmt::format("-MOVED {} :{}\r\n", SlotOf("user"), other.port()));
  Node seed(Slots(1, master.port()));
  RedisTokenBucket store(At({seed.address()}), metrics_, clock_);
  ASSERT_THAT(Take(store), Succeeds());
  EXPECT_EQ(other.asked(), 1);
  EXPECT_EQ(store.open_breakers(), 0);
}

TEST_F(ClusterTest, WhoIsGivenTheSlotIsAskedToTakeTheCall) {
  // The reply to ASKING comes before the script's.
  Node other("+OK\r\n" + kDecision);
  Node master(fmt::format("-ASK {} 127.0.0.1:{}\r\n", SlotOf("user"), other.port()));
  Node seed(Slots(1, master.port()));
  RedisTokenBucket store(At({seed.address()}), metrics_, clock_);
  EXPECT_THAT(Take(store), Succeeds());
}

TEST_F(ClusterTest, ACallIsNotSentOnWithoutEnd) {
  Node master("");
  master.Say(fmt::format("-MOVED {} 127.0.0.1:{}\r\n", SlotOf("user"), master.port()));
  Node seed(Slots(1, master.port()));
  RedisTokenBucket store(At({seed.address()}), metrics_, clock_);
  EXPECT_THAT(Take(store), FailsWith(kUnavailable, HasSubstr("too many cluster redirections")));
  EXPECT_EQ(master.asked(), 6);
  EXPECT_EQ(store.open_breakers(), 0) << "it answers";
}

TEST_F(ClusterTest, WhoHasBeenAwayIsNotBelieved) {
  Node master(kDecision);
  Node old("-READONLY\r\n");
  Node one(Slots(2, master.port()));
  Node two(Slots(2, master.port()));
  RedisOptions options = At({one.address(), two.address()});
  options.timeout = 2s;  // How long the master is asked, who serves but one connection.
  RedisTokenBucket store(options, metrics_, clock_);
  ASSERT_THAT(Take(store), Succeeds());
  one.Say(Slots(1, old.port()));
  const int asked = two.asked();
  // It has been asked after the first had told.
  ASSERT_TRUE(Eventually([&] { return two.asked() > asked; }));
  ASSERT_TRUE(Eventually([&] { return two.asked() > asked + 1; }));
  EXPECT_THAT(Take(store), Succeeds());
  EXPECT_EQ(old.asked(), 0);
}

TEST_F(ClusterTest, ASlotThatNobodyHasIsSaid) {
  Node master(kDecision);
  Node seed(
      Text("cluster_current_epoch:1\r\n") +
      fmt::format("*1\r\n*3\r\n:0\r\n:0\r\n*2\r\n{}:{}\r\n", Text("127.0.0.1"), master.port()));
  RedisTokenBucket store(At({seed.address()}), metrics_, clock_);
  EXPECT_THAT(
      Take(store),
      FailsWith(kUnavailable, HasSubstr(fmt::format("no master has slot {}", SlotOf("user")))));
}

TEST_F(ClusterTest, WhyNobodyTellsTheSlotsIsSaid) {
  const TcpServer alone([](const Socket& connection) {
    connection.Read();
    connection.Write(FormatCommand({"server", "redis", "version", "7.0.0", "mode", "standalone"}));
  });
  Node empty(Text("cluster_current_epoch:1\r\n") + "*0\r\n");
  RedisTokenBucket store(At({{"127.0.0.1", alone.port()}, empty.address()}), metrics_, clock_);
  const absl::StatusOr<Decision> decision = Take(store);
  EXPECT_THAT(decision, FailsWith(kUnavailable, HasSubstr("is no node of a Redis Cluster")));
  EXPECT_THAT(decision, FailsWith(kUnavailable, HasSubstr("no master has any slots")));
}

TEST_F(ClusterTest, ACallsDeadlineBoundsItsWaitForTheSlots) {
  auto silent =
      std::make_unique<TcpServer>([](const Socket& connection) { connection.AwaitEnd(); });
  RedisTokenBucket store(At({{"127.0.0.1", silent->port()}}), metrics_, clock_);
  EXPECT_THAT(Decide(store, kLimit, "user", {}, In(10ms)),
              FailsWith(kDeadlineExceeded, HasSubstr("deadline passed")));
  silent.reset();  // Else the store's end would wait for its answer.
}

}  // namespace
}  // namespace ratelimiter::testing
