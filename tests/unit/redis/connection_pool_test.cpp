#include "ratelimiter/redis/connection_pool.h"

#include <unistd.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "redis/resolver.h"
#include "support/eventually.h"
#include "support/status.h"
#include "support/threads.h"
#include "unit/redis/fake_redis.h"
#include "unit/redis/redis_test.h"

namespace ratelimiter::testing {
namespace {

using namespace std::chrono_literals;

using ::testing::_;
using ::testing::StartsWith;

using enum absl::StatusCode;

using Lease = ConnectionPool::Lease;

// What Redis says through the connection.
std::string Echo(Lease& lease, const std::string& text) {
  Connection& connection = *lease;
  if (!connection.Send(FormatCommand({"ECHO", text}), In(kLong)).ok()) return "not sent";
  const auto reply = connection.Receive(In(kLong));
  return reply.ok() ? Text(*reply) : "not received";
}

// A thread that can be seen to wait.
class WaitingThread {
 public:
  explicit WaitingThread(std::function<void()> action)
      : thread_([this, action = std::move(action)] {
          id_ = gettid();
          action();
        }) {}

  bool IsAsleep() const {
    if (id_ == 0) return false;
    std::ifstream stat("/proc/self/task/" + std::to_string(id_) + "/stat");
    std::string number;
    std::string name;
    std::string state;
    stat >> number >> name >> state;
    return state == "S";
  }

 private:
  std::atomic<pid_t> id_ = 0;
  std::jthread thread_;
};

class ConnectionPoolTest : public RedisTest {};

TEST_F(ConnectionPoolTest, OpensNothingBeforeItIsNeeded) {
  const ConnectionPool pool(server().address(), 4);
  EXPECT_EQ(Connections(), 0);
}

TEST_F(ConnectionPoolTest, LendsAReturnedConnectionAgain) {
  ConnectionPool pool(server().address(), 4);
  for (int i = 0; i < 10; ++i) EXPECT_THAT(pool.Acquire(In(kLong)), Succeeds());
  EXPECT_EQ(Connections(), 1);
}

TEST_F(ConnectionPoolTest, LendsAsManyAsItsSizeAndNoMore) {
  ConnectionPool pool(server().address(), 2);
  const auto first = pool.Acquire(In(kLong));
  const auto second = pool.Acquire(In(kLong));
  EXPECT_THAT(first, Succeeds());
  EXPECT_THAT(second, Succeeds());
  EXPECT_THAT(pool.Acquire(In(kShort)),
              FailsWith(kDeadlineExceeded, "all connections are in use (REDIS_POOL_SIZE)"));
  EXPECT_EQ(Connections(), 2);
}

TEST_F(ConnectionPoolTest, WaitsForAReturnedConnectionUntilTheDeadlineAndNoLonger) {
  ConnectionPool pool(server().address(), 1);
  const auto lent = pool.Acquire(In(kLong));
  const auto elapsed = Elapsed([&] { EXPECT_FALSE(pool.Acquire(In(kShort)).ok()); });
  EXPECT_GE(elapsed, kShort);
  EXPECT_LT(elapsed, kShort + kMargin);
}

TEST_F(ConnectionPoolTest, WhoeverGaveUpWaitingTakesNoConnection) {
  ConnectionPool pool(server().address(), 1);
  {
    const auto lent = pool.Acquire(In(kLong));
    EXPECT_FALSE(pool.Acquire(In(kShort)).ok());
  }
  EXPECT_THAT(pool.Acquire(In(kLong)), Succeeds());
}

TEST_F(ConnectionPoolTest, ServesWaitersInTheOrderInWhichTheyCame) {
  ConnectionPool pool(server().address(), 1);
  std::optional<absl::StatusOr<Lease>> lent(pool.Acquire(In(kLong)));
  std::string served;
  {
    std::vector<std::unique_ptr<WaitingThread>> waiters;
    for (const char name : {'a', 'b', 'c', 'd'}) {
      waiters.push_back(std::make_unique<WaitingThread>([&pool, &served, name] {
        const auto lease = pool.Acquire(In(kLong));
        if (lease.ok()) served += name;
      }));
      ASSERT_TRUE(Eventually([&] { return waiters.back()->IsAsleep(); }));
    }
    lent.reset();
  }
  EXPECT_EQ(served, "abcd");
  EXPECT_EQ(Connections(), 1);
}

TEST_F(ConnectionPoolTest, ABrokenConnectionIsReplaced) {
  ConnectionPool pool(server().address(), 1);
  {
    auto lease = pool.Acquire(In(kLong));
    ASSERT_THAT(lease, Succeeds());
    (**lease).MarkBroken();
  }
  auto lease = pool.Acquire(In(kLong));
  ASSERT_THAT(lease, Succeeds());
  EXPECT_EQ(Echo(*lease, "hello"), "hello");
  EXPECT_EQ(Connections(), 2);
}

TEST_F(ConnectionPoolTest, AWaiterMayHaveThePlaceOfABrokenConnection) {
  ConnectionPool pool(server().address(), 1);
  std::optional<absl::StatusOr<Lease>> lent(pool.Acquire(In(kLong)));
  absl::Status served;
  {
    const WaitingThread waiter([&] { served = pool.Acquire(In(kLong)).status(); });
    ASSERT_TRUE(Eventually([&] { return waiter.IsAsleep(); }));
    (***lent).MarkBroken();
    lent.reset();
  }
  EXPECT_THAT(served, Succeeds());
}

TEST_F(ConnectionPoolTest, AnIdleConnectionThatTheServerClosedIsReplaced) {
  ConnectionPool pool(server().address(), 1);
  ASSERT_THAT(pool.Acquire(In(kLong)), Succeeds());
  CloseAll();
  auto lease = pool.Acquire(In(kLong));
  ASSERT_THAT(lease, Succeeds());
  EXPECT_EQ(Echo(*lease, "hello"), "hello");
}

TEST_F(ConnectionPoolTest, AFailureToOpenTakesNoPlace) {
  ConnectionPool pool(server().address(), 1);
  server().Kill();
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(pool.Acquire(In(kLong)), FailsWith(kUnavailable, "Connection refused"));
  }
  server().Start();
  EXPECT_THAT(pool.Acquire(In(kLong)), Succeeds());
}

TEST_F(ConnectionPoolTest, ResolvesANameAndTriesAllItsAddresses) {
  RedisServer address = server().address();
  address.host = "localhost";
  EXPECT_THAT(ConnectionPool(address, 1).Acquire(In(kLong)), Succeeds());
}

TEST_F(ConnectionPoolTest, ABrokenConnectionHasTheNameResolvedAgain) {
  const auto resolved = std::make_shared<std::atomic<int>>(0);
  const auto resolve = [resolved](const std::string& /*host*/) {
    ++*resolved;
    return std::vector<std::string>{"127.0.0.1"};
  };
  ConnectionPool pool(server().address(), 1, std::make_unique<Resolver>("redis", resolve, 0ms));
  ASSERT_THAT(pool.Acquire(In(kLong)), Succeeds());
  ASSERT_EQ(*resolved, 1);
  {
    auto lease = pool.Acquire(In(kLong));
    ASSERT_THAT(lease, Succeeds());
    (**lease).MarkBroken();
  }
  EXPECT_TRUE(Eventually([&] { return *resolved == 2; }));
}

TEST_F(ConnectionPoolTest, EveryReplyReachesWhoAskedThoughSomeConnectionsBreak) {
  constexpr std::size_t kThreads = 16;
  constexpr int kSize = 4;
  ConnectionPool pool(server().address(), kSize);
  std::atomic<int> lent = 0;
  std::atomic<int> broken = 0;
  OnThreads(kThreads, [&](std::size_t thread) {
    for (std::size_t i = 0; i < 100; ++i) {
      auto lease = pool.Acquire(In(kLong));
      ASSERT_THAT(lease, Succeeds());
      EXPECT_LE(++lent, kSize);
      const std::string text = std::to_string(thread) + " " + std::to_string(i);
      EXPECT_EQ(Echo(*lease, text), text);
      if (i % 10 == thread % 10) {
        (**lease).MarkBroken();
        ++broken;
      }
      --lent;
    }
  });
  EXPECT_LE(Connections(), kSize + broken);
}

TEST(ConnectionPoolToNobodyTest, ANameThatCannotBeResolvedIsToldInTime) {
  ConnectionPool pool({.host = std::string(64, 'x')}, 1);
  EXPECT_LT(Elapsed([&] {
              EXPECT_THAT(pool.Acquire(In(kLong)),
                          FailsWith(kUnavailable, StartsWith("cannot resolve \"xxx")));
            }),
            kMargin);
}

TEST(ConnectionPoolToNobodyTest, AResolutionThatHangsFailsInTime) {
  std::promise<void> end;
  const auto hang = [ended = end.get_future().share()](const std::string& /*host*/) {
    ended.wait();
    return std::vector<std::string>();
  };
  ConnectionPool pool({}, 1, std::make_unique<Resolver>("redis", hang));
  const auto elapsed = Elapsed([&] {
    EXPECT_THAT(pool.Acquire(In(kShort)),
                FailsWith(kDeadlineExceeded, "the name is still being resolved"));
  });
  EXPECT_GE(elapsed, kShort);
  EXPECT_LT(elapsed, kShort + kMargin);
  end.set_value();
}

TEST(ConnectionPoolToNobodyTest, AServerThatStaysSilentFailsInTime) {
  const TcpServer silent(StaySilent);
  ConnectionPool pool({.port = silent.port()}, 1);
  EXPECT_LT(
      Elapsed([&] { EXPECT_THAT(pool.Acquire(In(kShort)), FailsWith(kDeadlineExceeded, _)); }),
      kShort + kMargin);
}

}  // namespace
}  // namespace ratelimiter::testing
