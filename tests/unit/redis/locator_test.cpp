#include "redis/locator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/status.h"
#include "unit/redis/fake_redis.h"
#include "unit/redis/redis_test.h"

namespace ratelimiter::testing {
namespace {

using ::testing::ElementsAre;

TEST(LocatorTest, AHostIsWhereItsNameLeads) {
  const auto locator = MakeLocator({.host = "127.0.0.1", .port = 1}, kLong);
  const auto found = locator->Find(In(kLong));
  ASSERT_THAT(found, Succeeds());
  EXPECT_THAT(found->addresses, ElementsAre("127.0.0.1"));
  EXPECT_EQ(found->port, 0);
}

TEST(LocatorTest, ASocketIsWhereItIs) {
  const auto locator = MakeLocator({.socket = "/run/redis.sock"}, kLong);
  const auto found = locator->Find(In(kLong));
  ASSERT_THAT(found, Succeeds());
  EXPECT_THAT(found->addresses, ElementsAre("/run/redis.sock"));
}

TEST(LocatorTest, AMasterIsWhereSentinelsSay) {
  const FakeRedis sentinel(Answer(FormatCommand({"127.0.0.2", "7"})));
  const auto locator =
      MakeLocator({.sentinels = {{"127.0.0.1", sentinel.port()}}, .master = "mymaster"}, kLong);
  const auto found = locator->Find(In(kLong));
  ASSERT_THAT(found, Succeeds());
  EXPECT_THAT(found->addresses, ElementsAre("127.0.0.2"));
  EXPECT_EQ(found->port, 7);
}

}  // namespace
}  // namespace ratelimiter::testing
