#include "ratelimiter/metrics/redis_metrics.h"

namespace ratelimiter {
namespace {

constexpr auto kCalls = std::to_array<std::uint64_t>({1, 2, 4, 8, 16, 32, 64, 128, 256, 512});

}  // namespace

RedisMetrics::RedisMetrics() : round_trip_calls_(kCalls) {}

void RedisMetrics::Observe(const RoundTrip& trip) {
  latency_.Observe(trip.latency);
  wait_.Observe(trip.waited);
  round_trip_calls_.Observe(trip.calls);
}

}  // namespace ratelimiter
