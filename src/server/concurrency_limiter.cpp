#include "ratelimiter/server/concurrency_limiter.h"

#include <chrono>
#include <cstdint>
#include <string>

#include <fmt/format.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace ratelimiter {
namespace {

using std::chrono::milliseconds;

constexpr int kWaits = 256;
constexpr milliseconds kLeastWait{1000};
constexpr milliseconds kMostWait{3000};
// Without a factor in common with kWaits: taken in such steps, each wait has its
// turn, and those of neighbours in time lie far apart.
constexpr std::size_t kStep = 99;

grpc::Status MakeRefusal(const std::string& message, milliseconds wait) {
  google::rpc::RetryInfo retry;
  const auto seconds = std::chrono::floor<std::chrono::seconds>(wait);
  retry.mutable_retry_delay()->set_seconds(seconds.count());
  retry.mutable_retry_delay()->set_nanos(
      static_cast<std::int32_t>(std::chrono::nanoseconds(wait - seconds).count()));
  google::rpc::Status details;
  details.set_code(grpc::StatusCode::RESOURCE_EXHAUSTED);
  details.set_message(message);
  details.add_details()->PackFrom(retry);
  return {grpc::StatusCode::RESOURCE_EXHAUSTED, message, details.SerializeAsString()};
}

std::vector<grpc::Status> MakeRefusals(std::size_t max_in_flight) {
  const std::string message = fmt::format(
      "{} calls are in flight already (MAX_IN_FLIGHT); of this one nothing was done; try again in "
      "about two seconds",
      max_in_flight);
  std::vector<grpc::Status> refusals;
  refusals.reserve(kWaits);
  for (int i = 0; i < kWaits; ++i) {
    refusals.push_back(
        MakeRefusal(message, kLeastWait + i * (kMostWait - kLeastWait) / (kWaits - 1)));
  }
  return refusals;
}

}  // namespace

ConcurrencyLimiter::ConcurrencyLimiter(std::size_t max_in_flight)
    : max_in_flight_(max_in_flight), refusals_(MakeRefusals(max_in_flight)) {}

ConcurrencyLimiter::Permit ConcurrencyLimiter::Acquire() {
  // Counted only where there is a place: one who is refused keeps no other out.
  std::size_t in_flight = in_flight_.load(std::memory_order_relaxed);
  while (in_flight < max_in_flight_) {
    if (in_flight_.compare_exchange_weak(in_flight, in_flight + 1, std::memory_order_relaxed)) {
      return Permit(&in_flight_);
    }
  }
  return Permit(nullptr);
}

const grpc::Status& ConcurrencyLimiter::Refusal() {
  return refusals_[refused_.fetch_add(kStep, std::memory_order_relaxed) % kWaits];
}

}  // namespace ratelimiter
