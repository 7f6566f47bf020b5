// What the parts of a decision cost in this process: time by Google Benchmark,
// and the memory of a bucket.

#include <malloc.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <prometheus/text_serializer.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/base/snapshot.h"
#include "ratelimiter/limiter/limit_set.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/memory/memory_token_bucket.h"
#include "ratelimiter/metrics/metrics.h"
#include "support/decide.h"

namespace ratelimiter {
namespace {

using testing::Ask;
using testing::Decide;
using testing::NamedSpec;

const NamedSpec kLimit = {.name = "default",
                          .capacity = 1'000'000,
                          .refill_tokens = 1'000'000,
                          .refill_interval = std::chrono::seconds(1)};

std::string ShortId(std::size_t i) { return fmt::format("user-{:06}", i); }
std::string Uuid(std::size_t i) { return fmt::format("{:08x}-0000-4000-8000-{:012x}", i, i); }

void MemoryDecides(benchmark::State& state) {
  static const SteadyClock clock;
  static MemoryTokenBucket store(1'000'000, clock);
  const std::string user = ShortId(static_cast<std::size_t>(state.thread_index()));
  for (auto _ : state) {
    benchmark::DoNotOptimize(Decide(store, kLimit, user, Ask{}, Deadline::max()));
  }
}
BENCHMARK(MemoryDecides)->Threads(1)->Threads(2);

void ReadsASnapshot(benchmark::State& state) {
  static const Snapshot<int> snapshot(std::make_shared<const int>(1));
  for (auto _ : state) benchmark::DoNotOptimize(*snapshot.Get());
}
BENCHMARK(ReadsASnapshot)->Threads(1)->Threads(2);

void CountsARequest(benchmark::State& state) {
  static RequestCounter requests(1'000);
  const std::string user = ShortId(static_cast<std::size_t>(state.thread_index()));
  for (auto _ : state) requests.Count(user, RequestStatus::kAllowed);
}
BENCHMARK(CountsARequest)->Threads(1)->Threads(2);

// Counts a user among the heaviest: one who is, or one of a million who come in turns.
void CountsAHeavyUser(benchmark::State& state) {
  static HeavyHitters users(4'096);
  std::vector<std::string> ids;
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    ids.push_back(ShortId(static_cast<std::size_t>(i + state.thread_index())));
  }
  std::size_t i = 0;
  for (auto _ : state) users.Count(ids[i++ % ids.size()]);
}
BENCHMARK(CountsAHeavyUser)->Arg(1)->Arg(1'000'000)->Threads(1)->Threads(2);

// All that the metrics do for one call that is allowed.
void ObservesACall(benchmark::State& state) {
  struct Status {
    static int error_code() { return 0; }
  };
  static Metrics metrics(1'000, "bench");
  const std::string user = ShortId(static_cast<std::size_t>(state.thread_index()));
  for (auto _ : state) {
    ObservedCall call(metrics.calls(), CallMethod::kAllowRequest);
    metrics.CountRequest(user, RequestStatus::kAllowed);
    metrics.decisions().Count("default", LimitStatus::kAllowed);
    call.EndWith(Status{});
  }
}
BENCHMARK(ObservesACall)->Threads(1)->Threads(2);

// What is scraped when there are as many users as have series by default, and more.
void Scrapes(benchmark::State& state) {
  constexpr std::size_t kUsers = 100'000;
  Metrics metrics(1'000, "bench");
  metrics.PublishRedis();
  for (std::size_t i = 0; i < kUsers; ++i) {
    metrics.CountRequest(ShortId(i), i % 2 == 0 ? RequestStatus::kAllowed : RequestStatus::kDenied);
  }
  const prometheus::TextSerializer serializer;
  for (auto _ : state) {
    for (const auto& collectable : metrics.collectables()) {
      benchmark::DoNotOptimize(serializer.Serialize(collectable->Collect()));
    }
  }
}
BENCHMARK(Scrapes);

// Finds the limits of a request among many: by path, by prefix, by an attribute,
// and one that applies to all.
void FindsLimits(benchmark::State& state) {
  std::vector<Limit> limits = {{.name = "all", .spec = kLimit.spec()}};
  for (std::int64_t i = 1; i < state.range(0); ++i) {
    Limit limit = {.name = fmt::format("limit-{}", i), .spec = kLimit.spec()};
    if (i % 3 == 0) limit.path = PathPattern(fmt::format("/exact/{}", i));
    if (i % 3 == 1) limit.path = PathPattern(fmt::format("/prefix/{}/*", i));
    if (i % 3 == 2) limit.attributes = {{"tenant", fmt::format("tenant-{}", i)}};
    limits.push_back(std::move(limit));
  }
  const LimitSet set(std::move(limits), HashBy::kUser);
  const std::vector<AttributeView> attributes = {{"plan", "free"}, {"tenant", "tenant-5"}};
  const std::vector<Request> requests = {
      {.user_id = "user-000001", .path = "/exact/3", .attributes = attributes},
      {.user_id = "user-000001", .path = "/prefix/4/things", .attributes = attributes}};
  std::size_t found = 0;
  for (auto _ : state) {
    for (const Request& request : requests) found += set.Match(request).size();
  }
  if (found != 6 * static_cast<std::size_t>(state.iterations())) {
    state.SkipWithError("each request is subject to three limits");
  }
}
BENCHMARK(FindsLimits)->Arg(10)->Arg(100)->Arg(1'000)->Arg(10'000);

// The name of a user's bucket among its limit's, which its key ends with.
void NamesABucket(benchmark::State& state) {
  const Limit limit = {.name = "default"};
  const Request request = {.user_id = "user-000001", .path = "/login"};
  BucketKeys bucket_key;
  for (auto _ : state) {
    bucket_key.clear();
    AppendBucketKey(limit, HashBy::kUser, request, bucket_key);
    benchmark::DoNotOptimize(bucket_key);
  }
}
BENCHMARK(NamesABucket);

// One decision in memory with several limits, from the limiter on.
void DecidesSeveral(benchmark::State& state) {
  static const SteadyClock clock;
  MemoryTokenBucket store(1'000'000, clock);
  std::vector<Limit> limits;
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    limits.push_back({.name = fmt::format("limit-{}", i), .spec = kLimit.spec()});
  }
  Limiter limiter(std::make_shared<const LimitSet>(std::move(limits), HashBy::kUser), store);
  const Request request = {.user_id = "user-000001", .path = "/login"};
  for (auto _ : state) benchmark::DoNotOptimize(limiter.Allow(request, Deadline::max()));
}
BENCHMARK(DecidesSeveral)->Arg(1)->Arg(3)->Arg(10);

// A batch in memory, each request of another user.
void DecidesABatch(benchmark::State& state) {
  static const SteadyClock clock;
  MemoryTokenBucket store(1'000'000, clock);
  const std::vector<Limit> limits = {{.name = "default", .spec = kLimit.spec()}};
  Limiter limiter(std::make_shared<const LimitSet>(limits, HashBy::kUser), store);
  std::vector<std::string> users;
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    users.push_back(ShortId(static_cast<std::size_t>(i)));
  }
  std::vector<Request> requests;
  for (const std::string& user : users) requests.push_back({.user_id = user, .path = "/login"});
  const auto tell = [](std::size_t, const absl::StatusOr<Answer>& answer) {
    benchmark::DoNotOptimize(answer.ok());
  };
  for (auto _ : state) limiter.AllowAll(requests, Deadline::max(), tell);
}
BENCHMARK(DecidesABatch)->Arg(100);

// The counter `bytes` is what the allocator has given out for one of a million
// buckets in use.
void AMillionBuckets(benchmark::State& state, std::string (*id)(std::size_t)) {
  constexpr std::size_t kBuckets = 1'000'000;
  const SteadyClock clock;
  const NamedSpec slow = {.name = "default",
                          .capacity = 5,
                          .refill_tokens = 1,
                          .refill_interval = std::chrono::hours(1)};
  for (auto _ : state) {
    const std::size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    auto store = std::make_unique<MemoryTokenBucket>(kBuckets, clock);
    for (std::size_t i = 0; i < kBuckets; ++i) {
      benchmark::DoNotOptimize(Decide(*store, slow, id(i), Ask{}, Deadline::max()));
    }
    const std::size_t after = mallinfo2().uordblks + mallinfo2().hblkhd;
    state.counters["bytes"] = static_cast<double>(after - before) / kBuckets;
    if (store->buckets() != kBuckets) state.SkipWithError("not all buckets were kept");
  }
}
BENCHMARK_CAPTURE(AMillionBuckets, ids_of_11_bytes, ShortId)
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(AMillionBuckets, uuids, Uuid)->Iterations(1)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace ratelimiter
