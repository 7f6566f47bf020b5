#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <grpcpp/server_context.h>
#include <gtest/gtest.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/base/log.h"
#include "ratelimiter/limiter/limit_set.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/memory/memory_token_bucket.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/redis/redis_token_bucket.h"
#include "ratelimiter/server/rate_limiter_service.h"
#include "server/call_log.h"
#include "support/allocations.h"
#include "support/redis_server.h"

namespace ratelimiter {
namespace {

using testing::AllocationsIn;

constexpr std::uint64_t kCapacity = 20;

// Three limits, of which the second refuses first.
std::shared_ptr<const LimitSet> ThreeLimits() {
  std::vector<Limit> limits;
  for (const std::uint64_t capacity : {2 * kCapacity, kCapacity, 3 * kCapacity}) {
    limits.push_back(
        {.name = "a-limit-with-a-long-name-" + std::to_string(limits.size()),
         .spec = {
             .capacity = capacity, .refill_tokens = 1, .refill_interval = std::chrono::hours(1)}});
  }
  return std::make_shared<const LimitSet>(std::move(limits), HashBy::kUser);
}

limiter::AllowRequestRequest RequestOf(const std::string& user, bool details) {
  limiter::AllowRequestRequest request;
  request.set_user_id(user);
  request.set_path("/a/path/that/is/longer/than/a/string/holds/within");
  (*request.mutable_attributes())["an-attribute-with-a-long-name"] = "and-with-a-long-value";
  request.set_details(details);
  return request;
}

// That a handler allocates what its response takes, which is what a copy of it
// takes, and no more. Twice: the first call of a user may make its bucket and series.
template <typename Response>
void ExpectOnlyTheResponse(const auto& handle) {
  for (const bool first : {true, false}) {
    grpc::ServerContext context;
    Response response;
    grpc::Status status;
    const int allocations = AllocationsIn([&] { status = handle(context, response); });
    ASSERT_TRUE(status.ok()) << status.error_message();
    if (first) continue;
    Response copy;
    EXPECT_EQ(allocations, AllocationsIn([&] { copy = response; })) << response.DebugString();
  }
}

// For each store the same.
void ExpectThatCallsAllocateOnlyTheirResponses(TokenBucketStore& store) {
  Limiter limiter(ThreeLimits(), store);
  Metrics metrics(10, "test");
  CallLog log(std::nullopt, MakeLogger(spdlog::level::info, LogFormat::kText));
  DecisionService decisions(limiter, store, metrics, nullptr, {.max_in_flight = 1});
  RateLimiterService service(decisions, metrics, log, false);
  for (const std::string& user : {std::string(11, 'u'), std::string(kMaxUserIdBytes, 'u')}) {
    bool allowed = true;
    const auto allow = [&](bool details) {
      const limiter::AllowRequestRequest request = RequestOf(user, details);
      ExpectOnlyTheResponse<limiter::AllowRequestResponse>(
          [&](grpc::ServerContext& context, limiter::AllowRequestResponse& response) {
            grpc::Status status = service.AllowRequest(&context, &request, &response);
            allowed = response.allowed();
            return status;
          });
    };
    allow(false);
    allow(true);
    EXPECT_TRUE(allowed);
    while (allowed) allow(false);
    allow(false);
    allow(true);
    EXPECT_FALSE(allowed);

    limiter::GetUsageRequest request;
    request.set_user_id(user);
    ExpectOnlyTheResponse<limiter::GetUsageResponse>(
        [&](grpc::ServerContext& context, limiter::GetUsageResponse& response) {
          return service.GetUsage(&context, &request, &response);
        });
  }
}

TEST(ServiceAllocationTest, CallsOverMemoryAllocateOnlyTheirResponses) {
  const SteadyClock clock;
  MemoryTokenBucket store(100, clock);
  ExpectThatCallsAllocateOnlyTheirResponses(store);
}

TEST(ServiceAllocationTest, CallsOverRedisAllocateOnlyTheirResponses) {
  testing::RedisServerProcess redis;
  const SteadyClock clock;
  for (const auto deny_cache : {std::chrono::milliseconds(0), std::chrono::milliseconds(60'000)}) {
    redis.Run({"FLUSHALL"});
    Metrics metrics(0, "test");
    RedisTokenBucket store({.server = redis.address(),
                            .timeout = std::chrono::seconds(10),
                            .deny_cache_max_age = deny_cache},
                           metrics, clock);
    ExpectThatCallsAllocateOnlyTheirResponses(store);
  }
}

}  // namespace
}  // namespace ratelimiter
