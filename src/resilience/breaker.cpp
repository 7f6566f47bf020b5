#include "ratelimiter/resilience/breaker.h"

#include <algorithm>
#include <utility>

namespace ratelimiter {

Breaker::Breaker(const Clock& clock, std::uint32_t seed) : clock_(clock), random_(seed) {}

void Breaker::Succeeded() {
  const std::lock_guard lock(mutex_);
  if (open()) return;
  consecutive_ = 0;
  ++Now().trips;
}

void Breaker::Failed(std::string error) {
  const std::lock_guard lock(mutex_);
  error_ = std::move(error);
  if (open()) return;
  Second& now = Now();
  ++now.trips;
  ++now.failed;
  if (++consecutive_ >= kConsecutive || HalfFailed()) Open();
}

void Breaker::Probed(bool answered) {
  const std::lock_guard lock(mutex_);
  if (!open()) return;
  if (!answered) {
    good_probes_ = 0;
    longest_rest_ = std::min<std::chrono::microseconds>(2 * longest_rest_, kLongestRest);
    Rest(longest_rest_);
  } else if (++good_probes_ == needed_probes_) {
    Close();
  } else {
    Rest(kFirstRest);
  }
}

std::string Breaker::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

std::chrono::microseconds Breaker::open_for() const {
  const std::lock_guard lock(mutex_);
  return (open() ? clock_.Now() : closed_at_.value_or(opened_at_)) - opened_at_;
}

std::chrono::microseconds Breaker::rest() const {
  const std::lock_guard lock(mutex_);
  return rest_;
}

bool Breaker::AwaitOpening(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  return opened_.wait(lock, stop, [this] { return open(); });
}

Breaker::Second& Breaker::Now() {
  const std::int64_t number = std::chrono::floor<std::chrono::seconds>(clock_.Now()).count();
  Second& second = seconds_[static_cast<std::size_t>(number) % seconds_.size()];
  if (second.number != number) second = {.number = number};
  return second;
}

bool Breaker::HalfFailed() {
  const std::int64_t oldest = Now().number - kWindow.count() + 1;
  std::uint64_t trips = 0;
  std::uint64_t failed = 0;
  for (const Second& second : seconds_) {
    if (second.number < oldest) continue;
    trips += second.trips;
    failed += second.failed;
  }
  return trips >= kLeastTrips && 2 * failed >= trips;
}

void Breaker::Open() {
  opened_at_ = clock_.Now();
  const bool flaps = closed_at_.has_value() && opened_at_ - *closed_at_ < kCalm;
  needed_probes_ = flaps ? kGoodProbes : 1;
  longest_rest_ =
      flaps ? std::min<std::chrono::microseconds>(2 * longest_rest_, kLongestRest) : kFirstRest;
  good_probes_ = 0;
  Rest(longest_rest_);
  open_.store(true, std::memory_order_relaxed);
  openings_.fetch_add(1, std::memory_order_relaxed);
  opened_.notify_all();
}

void Breaker::Close() {
  closed_at_ = clock_.Now();
  seconds_ = {};
  consecutive_ = 0;
  open_.store(false, std::memory_order_relaxed);
}

void Breaker::Rest(std::chrono::microseconds most) {
  // Half of it at least, so that many instances do not probe at the same moments.
  std::uniform_int_distribution<std::int64_t> jitter(most.count() / 2, most.count());
  rest_ = std::chrono::microseconds(jitter(random_));
}

}  // namespace ratelimiter
