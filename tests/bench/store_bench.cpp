// What the parts of a decision cost in this process: time by Google Benchmark,
// and the memory of a bucket.

#include <malloc.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/memory/memory_token_bucket.h"
#include "ratelimiter/metrics/status_counter.h"
#include "support/decide.h"

namespace ratelimiter {
namespace {

using testing::Ask;
using testing::Decide;
using testing::NamedQuota;

const NamedQuota kLimit = {.name = "default",
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

void CountsARequest(benchmark::State& state) {
  static RequestCounter requests(1'000);
  const std::string user = ShortId(static_cast<std::size_t>(state.thread_index()));
  for (auto _ : state) requests.Count(user, RequestStatus::kAllowed);
}
BENCHMARK(CountsARequest)->Threads(1)->Threads(2);

// The counter `bytes` is what the allocator has given out for one of a million
// buckets in use.
void AMillionBuckets(benchmark::State& state, std::string (*id)(std::size_t)) {
  constexpr std::size_t kBuckets = 1'000'000;
  const SteadyClock clock;
  const NamedQuota slow = {.name = "default",
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
