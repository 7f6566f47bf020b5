#include "ratelimiter/server/load_shedder.h"

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace ratelimiter {
namespace {

using std::chrono::milliseconds;

// The backlog is looked at once in so many calls, for a look costs as much as several.
constexpr std::size_t kCallsALook = 256;
// Nobody is refused for what was seen longer ago: by then the backlog may be gone.
constexpr milliseconds kLookHolds{10};

constexpr int kWaits = 256;
constexpr milliseconds kLeastWait{500};
constexpr milliseconds kMostWait{1500};
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
      "about a second",
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

LoadShedder::LoadShedder(std::size_t max_in_flight, std::function<std::size_t()> backlog,
                         const Clock& clock)
    : backlog_(std::move(backlog)),
      clock_(clock),
      max_in_flight_(max_in_flight),
      refusals_(MakeRefusals(max_in_flight)) {}

LoadShedder::Place LoadShedder::Enter() {
  if (IsBehind()) return Place(nullptr);
  // Counted only where there is a place: one who is refused keeps no other out.
  std::size_t in_flight = in_flight_.load(std::memory_order_relaxed);
  while (in_flight < max_in_flight_) {
    if (in_flight_.compare_exchange_weak(in_flight, in_flight + 1, std::memory_order_relaxed)) {
      return Place(&in_flight_);
    }
  }
  return Place(nullptr);
}

bool LoadShedder::IsBehind() {
  const std::size_t before = entered_.fetch_add(1, std::memory_order_relaxed);
  if (before % kCallsALook == 0) {
    LookAtBacklog(clock_.Now());
  } else if (behind_.load(std::memory_order_relaxed)) {
    const std::chrono::microseconds now = clock_.Now();
    auto seen = looked_at_.load(std::memory_order_relaxed);
    // One of those who find it old looks again.
    if (now - seen > kLookHolds && looked_at_.compare_exchange_strong(seen, now)) {
      LookAtBacklog(now);
    }
  }
  return behind_.load(std::memory_order_relaxed);
}

void LoadShedder::LookAtBacklog(std::chrono::microseconds now) {
  looked_at_.store(now, std::memory_order_relaxed);
  behind_.store(backlog_() > max_in_flight_, std::memory_order_relaxed);
}

const grpc::Status& LoadShedder::Refusal() {
  return refusals_[refused_.fetch_add(kStep, std::memory_order_relaxed) % kWaits];
}

}  // namespace ratelimiter
