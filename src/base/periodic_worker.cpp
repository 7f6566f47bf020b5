#include "ratelimiter/base/periodic_worker.h"

#include <utility>

namespace ratelimiter {

PeriodicWorker::PeriodicWorker(Task task) : task_(std::move(task)), thread_([this] { Run(); }) {}

PeriodicWorker::~PeriodicWorker() {
  {
    const MutexLock lock(mutex_);
    stopped_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

void PeriodicWorker::Wake() {
  {
    const MutexLock lock(mutex_);
    woken_ = true;
  }
  changed_.NotifyAll();
}

void PeriodicWorker::Run() {
  while (Pause(task_())) {
  }
}

bool PeriodicWorker::Pause(std::chrono::nanoseconds time) {
  using std::chrono::steady_clock;
  const auto now = steady_clock::now();
  // kForever, added to the current time, would overflow.
  const bool bounded = time < steady_clock::time_point::max() - now;
  const auto end = now + (bounded ? time : std::chrono::nanoseconds(0));
  const MutexLock lock(mutex_);
  while (!stopped_ && !woken_) {
    if (!bounded) {
      changed_.Wait(mutex_);
    } else if (!changed_.WaitUntil(mutex_, end)) {
      break;
    }
  }
  woken_ = false;
  return !stopped_;
}

}  // namespace ratelimiter
