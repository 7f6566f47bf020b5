#pragma once

#include <chrono>
#include <functional>
#include <thread>

#include "ratelimiter/base/mutex.h"

namespace ratelimiter {

// Runs a task again and again on a thread of its own, until it is destroyed.
//
// Thread-safe.
class PeriodicWorker {
 public:
  // Does the work once; returns how long to pause before the next run. kForever: until Wake.
  using Task = std::function<std::chrono::nanoseconds()>;
  static constexpr std::chrono::nanoseconds kForever = std::chrono::nanoseconds::max();

  // Runs `task` at once.
  explicit PeriodicWorker(Task task);
  // Ends a pause at once; waits for a run that has begun.
  ~PeriodicWorker();
  PeriodicWorker(const PeriodicWorker&) = delete;
  PeriodicWorker& operator=(const PeriodicWorker&) = delete;

  // Ends the pause: the task runs now, or once more if it is running. Never waits.
  void Wake();

 private:
  void Run();
  // False: the worker is being destroyed.
  bool Pause(std::chrono::nanoseconds time);

  const Task task_;

  Mutex mutex_;
  CondVar changed_;
  bool woken_ GUARDED_BY(mutex_) = false;
  bool stopped_ GUARDED_BY(mutex_) = false;

  std::thread thread_;  // Last: it uses all the others.
};

}  // namespace ratelimiter
