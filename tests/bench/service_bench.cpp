// What the service's handlers cost over the store in memory, without gRPC: a call,
// and a batch of a hundred, by the decision.

#include <fcntl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <google/protobuf/arena.h>
#include <grpcpp/server_context.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/base/log.h"
#include "ratelimiter/limiter/limit_set.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/memory/memory_token_bucket.h"
#include "ratelimiter/metrics/metrics.h"
#include "ratelimiter/server/rate_limiter_service.h"
#include "server/call_log.h"

namespace ratelimiter {
namespace {

using google::protobuf::Arena;

std::shared_ptr<const LimitSet> Limits(std::int64_t count) {
  std::vector<Limit> limits;
  for (std::int64_t i = 0; i < count; ++i) {
    limits.push_back({.name = fmt::format("limit-{}", i),
                      .spec = {.capacity = 1'000'000,
                               .refill_tokens = 1'000'000,
                               .refill_interval = std::chrono::seconds(1)}});
  }
  return std::make_shared<const LimitSet>(std::move(limits), HashBy::kUser);
}

std::optional<Fraction> Scale(std::int64_t millionths) {
  if (millionths == 0) return std::nullopt;
  return Fraction{static_cast<std::uint32_t>(millionths)};
}

// The service with all that it needs, and so many limits a request. Of its calls a
// share has a line in a log that nobody keeps.
struct Served {
  explicit Served(std::int64_t limits, std::int64_t logged_millionths = 0)
      : limiter(Limits(limits), store),
        log(Scale(logged_millionths),
            std::make_shared<Logger>(spdlog::level::info, LogFormat::kJson,
                                     open("/dev/null", O_WRONLY | O_CLOEXEC))) {}

  SteadyClock clock;
  MemoryTokenBucket store{1'000'000, clock};
  Limiter limiter;
  Metrics metrics{1'000, "bench"};
  CallLog log;
  DecisionService decisions{limiter, store, metrics, nullptr, {.max_in_flight = 400}};
  RateLimiterService service{decisions, metrics, log, false};
};

limiter::AllowRequestRequest RequestOf(std::int64_t user) {
  limiter::AllowRequestRequest request;
  request.set_user_id(fmt::format("user-{:06}", user));
  request.set_path("/login");
  return request;
}

void Handles(benchmark::State& state) {
  static Served served(1);
  const limiter::AllowRequestRequest request = RequestOf(state.thread_index());
  for (auto _ : state) {
    grpc::ServerContext context;
    limiter::AllowRequestResponse response;
    benchmark::DoNotOptimize(served.service.AllowRequest(&context, &request, &response));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(Handles)->Threads(1)->Threads(2);

// By the share of calls, in millionths, that the access log has.
void HandlesAndLogs(benchmark::State& state) {
  Served served(1, state.range(0));
  const limiter::AllowRequestRequest request = RequestOf(1);
  for (auto _ : state) {
    grpc::ServerContext context;
    limiter::AllowRequestResponse response;
    benchmark::DoNotOptimize(served.service.AllowRequest(&context, &request, &response));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(HandlesAndLogs)->Arg(0)->Arg(10'000)->Arg(1'000'000);

// By the number of limits a request. Of all bytes of a call, in and out.
void HandlesAHundred(benchmark::State& state) {
  Served served(state.range(0));
  limiter::AllowRequestsRequest requests;
  for (std::int64_t i = 0; i < 100; ++i) *requests.add_requests() = RequestOf(i);
  const std::string message = requests.SerializeAsString();
  for (auto _ : state) {
    // On arenas, as gRPC's handler has them.
    Arena arena;
    auto& parsed = *Arena::CreateMessage<limiter::AllowRequestsRequest>(&arena);
    if (!parsed.ParseFromString(message)) state.SkipWithError("it does not parse");
    grpc::ServerContext context;
    auto& response = *Arena::CreateMessage<limiter::AllowRequestsResponse>(&arena);
    benchmark::DoNotOptimize(served.service.AllowRequests(&context, &parsed, &response));
    benchmark::DoNotOptimize(response.SerializeAsString());
  }
  state.SetItemsProcessed(100 * state.iterations());
}
BENCHMARK(HandlesAHundred)->Arg(1)->Arg(3);

}  // namespace
}  // namespace ratelimiter
