#pragma once

#include <atomic>
#include <optional>
#include <utility>

#include "ratelimiter/base/mutex.h"

namespace ratelimiter {

// Lets one thread wait for one event. One that occurs before the wait costs an atomic operation.
//
// Thread-safe. May be destroyed as soon as Wait has returned, even while Signal has not.
class Event {
 public:
  // Once.
  void Signal() {
    // Nothing of this object may be touched once the waiting thread can see kSignaled.
    if (state_.exchange(kSignaled, std::memory_order_acq_rel) != kWaiting) return;
    const MutexLock lock(mutex_);
    woken_ = true;
    changed_.NotifyAll();
  }

  void Wait() {
    int idle = kIdle;
    if (!state_.compare_exchange_strong(idle, kWaiting, std::memory_order_acq_rel)) return;
    const MutexLock lock(mutex_);
    while (!woken_) changed_.Wait(mutex_);
  }

 private:
  static constexpr int kIdle = 0;
  static constexpr int kWaiting = 1;
  static constexpr int kSignaled = 2;

  std::atomic<int> state_ = kIdle;
  Mutex mutex_;
  CondVar changed_;
  bool woken_ GUARDED_BY(mutex_) = false;
};

// Starts an asynchronous operation and waits until it completes: `start` is called with the
// completion to pass on, and Await returns what that was called with. Allocates nothing.
template <typename Result>
Result Await(const auto& start) {
  struct {
    std::optional<Result> result;
    Event completed;
  } call;
  start([&call](Result result) {
    call.result.emplace(std::move(result));
    call.completed.Signal();
  });
  call.completed.Wait();
  // NOLINTNEXTLINE(bugprone-unchecked-optional-access): set before the signal.
  return *std::move(call.result);
}

}  // namespace ratelimiter
