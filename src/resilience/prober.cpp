#include "ratelimiter/resilience/prober.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

#include <fmt/format.h>

#include "ratelimiter/base/duration.h"

namespace ratelimiter {
namespace {

// False: it was stopped before.
bool Sleep(std::chrono::microseconds time, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any nobody;
  std::unique_lock lock(mutex);
  nobody.wait_for(lock, stop, time, [] { return false; });
  return !stop.stop_requested();
}

}  // namespace

Prober::Prober(std::string name, Breaker& breaker, std::function<bool()> probe,
               std::function<void(bool open, const std::string& message)> tell)
    : name_(std::move(name)),
      breaker_(breaker),
      probe_(std::move(probe)),
      tell_(std::move(tell)),
      thread_([this](const std::stop_token& stop) { Run(stop); }) {}

void Prober::Run(const std::stop_token& stop) {
  while (breaker_.AwaitOpening(stop)) {
    tell_(true, fmt::format("circuit breaker of {} opened; probing: {}", name_, breaker_.error()));
    while (breaker_.open()) {
      if (!Sleep(breaker_.rest(), stop)) return;
      breaker_.Probed(probe_());
    }
    const auto open_for = std::chrono::round<std::chrono::milliseconds>(breaker_.open_for());
    tell_(false,
          fmt::format("circuit breaker of {} closed after {}", name_, FormatDuration(open_for)));
  }
}

}  // namespace ratelimiter
