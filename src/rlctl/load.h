#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <absl/functional/function_ref.h>
#include <grpcpp/channel.h>
#include <grpcpp/support/status.h>

#include "latency_histogram.h"

namespace ratelimiter {

// Bounds of what is in flight, and so of memory. Where an open loop reaches them
// its calls are sent late.
inline constexpr std::size_t kMaxCallsInFlight = 50'000;
inline constexpr std::size_t kMaxRequestsInFlight = 1'000'000;

// The load that is put on a daemon. Callers and their batches are within the bounds.
struct LoadOptions {
  // An open loop: calls a second, sent when they are due, whatever the answers do.
  std::uint32_t rate = 100;
  // Not 0: a closed loop instead, of so many callers, each of which sends its next
  // call when its last is answered. After a failure it first waits as long as the
  // answer's RetryInfo says; without one, from 50 to 150 ms.
  std::uint32_t callers = 0;

  std::chrono::microseconds warmup = std::chrono::seconds(1);
  std::chrono::microseconds duration = std::chrono::seconds(10);
  std::chrono::microseconds timeout{0};  // The deadline of each call.

  // Users are user-000000 and so on, chosen by Zipf's law: 0 is uniformly. The
  // choices are the same in every run.
  std::uint32_t users = 1;
  double zipf_exponent = 0;
  std::vector<std::string> paths;  // Taken in turns; none: no path.
  std::optional<std::uint32_t> cost;
  std::uint32_t batch = 0;  // Not 0: calls of AllowRequests with so many requests.
};

// What came of it. Calls count that were due within the duration, after the
// warm-up; each has ended, with its answer or at its deadline.
struct LoadResult {
  std::uint64_t calls = 0;
  std::uint64_t accepted = 0;  // Those whose status is OK.

  // Requests, of which a call has one, or a batch; they add up to all.
  std::uint64_t allowed = 0;
  std::uint64_t denied = 0;
  std::array<std::uint64_t, grpc::StatusCode::UNAUTHENTICATED + 1> errors{};  // By code.

  // From when a call was due until its answer; of accepted calls.
  LatencyHistogram latency;
  // The most that a call was sent after it was due. Zero in a closed loop.
  std::chrono::nanoseconds max_send_lag{0};

  // Less than asked for if the load was ended early.
  std::chrono::nanoseconds duration{0};
  // Answered with OK within that time, whenever they were sent: the throughput.
  std::uint64_t calls_in_time = 0;
  std::uint64_t decisions_in_time = 0;

  grpc::Status last_error;
};

struct LoadProgress {
  double fraction = 0;  // Of the time that it takes, 0 to 1.
  std::uint64_t answered = 0;
};

// Puts the load on the daemon behind `channels`, of which there is at least one
// and which are used in turns, and returns when every call has ended: at most the
// timeout after the last was sent. `watch` is called on this thread again and
// again; it waits for a moment, and returns false to have no more calls sent.
LoadResult RunLoad(std::span<const std::shared_ptr<grpc::Channel>> channels,
                   const LoadOptions& options, absl::FunctionRef<bool(const LoadProgress&)> watch);

// What RetryInfo in the details of a failure says; nullopt: there is none.
std::optional<std::chrono::microseconds> RetryDelayOf(const grpc::Status& status);

}  // namespace ratelimiter
