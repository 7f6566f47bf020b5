#include "redis/endpoint_resolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/status.h"
#include "unit/redis/fake_redis.h"
#include "unit/redis/redis_test.h"

namespace ratelimiter::testing {
namespace {

using ::testing::ElementsAre;

TEST(EndpointResolverTest, AHostIsWhereItsNameLeads) {
  const auto resolver = MakeEndpointResolver({.host = "127.0.0.1", .port = 1}, kLong);
  const auto found = resolver->Find(In(kLong));
  ASSERT_THAT(found, Succeeds());
  EXPECT_THAT(found->addresses, ElementsAre("127.0.0.1"));
  EXPECT_EQ(found->port, 0);
}

TEST(EndpointResolverTest, ASocketIsWhereItIs) {
  const auto resolver = MakeEndpointResolver({.socket = "/run/redis.sock"}, kLong);
  const auto found = resolver->Find(In(kLong));
  ASSERT_THAT(found, Succeeds());
  EXPECT_THAT(found->addresses, ElementsAre("/run/redis.sock"));
}

TEST(EndpointResolverTest, AMasterIsWhereSentinelsSay) {
  const FakeRedis sentinel(Answer(FormatCommand({"127.0.0.2", "7"})));
  const auto resolver = MakeEndpointResolver(
      {.sentinels = {{"127.0.0.1", sentinel.port()}}, .master = "mymaster"}, kLong);
  const auto found = resolver->Find(In(kLong));
  ASSERT_THAT(found, Succeeds());
  EXPECT_THAT(found->addresses, ElementsAre("127.0.0.2"));
  EXPECT_EQ(found->port, 7);
}

}  // namespace
}  // namespace ratelimiter::testing
