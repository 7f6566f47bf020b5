#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "ratelimiter/metrics/histogram.h"
#include "ratelimiter/metrics/striped_counts.h"

namespace ratelimiter {

// What went wrong with Redis: how a round trip failed, or which error was the answer.
enum class RedisError : std::uint8_t {
  kTimeout,     // No answer in time.
  kConnect,     // No connection came about: it was not found, or not accepted.
  kConnection,  // It broke.
  kProtocol,    // What came is no answer to what was asked.
  kReadonly,
  kLoading,
  kMasterdown,
  kClusterdown,
  kNoreplicas,
  kMoved,
  kAsk,
  kTryagain,
  kCrossslot,
  kOom,
  kMisconf,
  kNoauth,
  kWrongpass,
  kNoperm,
  kMaxclients,
  kBusy,
  kNoscript,
  kWrongtype,
  kErr,
  kOther,
};

// By RedisError.
inline constexpr auto kRedisErrorNames = std::to_array<std::string_view>(
    {"timeout",    "connect",     "connection", "protocol",  "readonly",  "loading",
     "masterdown", "clusterdown", "noreplicas", "moved",     "ask",       "tryagain",
     "crossslot",  "oom",         "misconf",    "noauth",    "wrongpass", "noperm",
     "maxclients", "busy",        "noscript",   "wrongtype", "err",       "other"});
static_assert(kRedisErrorNames.size() == static_cast<std::size_t>(RedisError::kOther) + 1);

// What is counted of Redis, as it happens, for Metrics to show.
//
// Thread-safe. Nothing here takes a lock or allocates.
class RedisMetrics {
 public:
  RedisMetrics();

  struct RoundTrip {
    // From writing the commands to the last reply, or to the failure.
    std::chrono::nanoseconds latency{0};
    // How long the caller who waited longest had waited when they were written.
    std::chrono::nanoseconds waited{0};
    std::size_t calls = 0;
  };
  // One that calls were sent by, successful or not.
  void Observe(const RoundTrip& trip);

  void CountError(RedisError error) {
    errors_[static_cast<std::size_t>(error)].fetch_add(1, std::memory_order_relaxed);
  }

  // One that calls are sent over.
  void CountOpened() {
    connections_opened_.fetch_add(1, std::memory_order_relaxed);
    connections_.fetch_add(1, std::memory_order_relaxed);
  }
  void CountClosed() { connections_.fetch_sub(1, std::memory_order_relaxed); }

  // A call that was refused without asking Redis.
  void CountDenyCacheHit() { deny_cache_hits_.Add(0); }

  const Histogram& latency() const { return latency_; }
  const Histogram& wait() const { return wait_; }
  const Histogram& round_trip_calls() const { return round_trip_calls_; }
  std::uint64_t errors(std::size_t kind) const {
    return errors_[kind].load(std::memory_order_relaxed);
  }
  std::uint64_t connections_opened() const {
    return connections_opened_.load(std::memory_order_relaxed);
  }
  std::size_t connections() const { return connections_.load(std::memory_order_relaxed); }
  std::uint64_t deny_cache_hits() const { return deny_cache_hits_.Total(0); }

 private:
  Histogram latency_ = Histogram::OfSeconds();
  Histogram wait_ = Histogram::OfSeconds();
  Histogram round_trip_calls_;
  std::array<std::atomic<std::uint64_t>, kRedisErrorNames.size()> errors_{};
  std::atomic<std::uint64_t> connections_opened_{0};
  std::atomic<std::size_t> connections_{0};
  StripedCounts<1> deny_cache_hits_;
};

}  // namespace ratelimiter
