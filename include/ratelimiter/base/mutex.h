#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include <absl/base/thread_annotations.h>

// Clang's thread-safety annotations; nothing on other compilers. `./dev lint` compiles with
// clang and takes -Wthread-safety for an error. See
// https://clang.llvm.org/docs/ThreadSafetyAnalysis.html
#ifdef __clang__
#define RATELIMITER_ANNOTATE(attribute) __attribute__((attribute))
#else
#define RATELIMITER_ANNOTATE(attribute)
#endif

// Older Abseil defines some of these names, with the same meaning.

// A member that is read and written only while the mutex is held.
#ifndef GUARDED_BY
#define GUARDED_BY(mutex) RATELIMITER_ANNOTATE(guarded_by(mutex))
#endif
// A pointer whose target is read and written only while the mutex is held.
#ifndef PT_GUARDED_BY
#define PT_GUARDED_BY(mutex) RATELIMITER_ANNOTATE(pt_guarded_by(mutex))
#endif
// A function whose caller must hold, or must not hold, the mutex.
#define REQUIRES(...) RATELIMITER_ANNOTATE(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) RATELIMITER_ANNOTATE(locks_excluded(__VA_ARGS__))
// Turns the analysis off for one function; say why in a comment.
#ifndef NO_THREAD_SAFETY_ANALYSIS
#define NO_THREAD_SAFETY_ANALYSIS RATELIMITER_ANNOTATE(no_thread_safety_analysis)
#endif

namespace ratelimiter {

// A std::mutex that the analysis knows.
class RATELIMITER_ANNOTATE(capability("mutex")) Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() RATELIMITER_ANNOTATE(acquire_capability()) { mutex_.lock(); }
  void unlock() RATELIMITER_ANNOTATE(release_capability()) { mutex_.unlock(); }
  bool try_lock() RATELIMITER_ANNOTATE(try_acquire_capability(true)) { return mutex_.try_lock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

// Holds a mutex until the end of its scope. Unlock and Lock release it in between.
class RATELIMITER_ANNOTATE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) RATELIMITER_ANNOTATE(acquire_capability(mutex)) : mutex_(mutex) {
    mutex_.lock();
  }
  ~MutexLock() RATELIMITER_ANNOTATE(release_capability()) {
    if (held_) mutex_.unlock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void Unlock() RATELIMITER_ANNOTATE(release_capability()) {
    held_ = false;
    mutex_.unlock();
  }
  void Lock() RATELIMITER_ANNOTATE(acquire_capability()) {
    mutex_.lock();
    held_ = true;
  }

 private:
  Mutex& mutex_;
  bool held_ = true;
};

// A condition variable for Mutex. A wait may return early: wait in a loop over the condition,
// so that the analysis sees the guarded members read under the mutex.
class CondVar {
 public:
  CondVar() = default;
  CondVar(const CondVar&) = delete;
  CondVar& operator=(const CondVar&) = delete;

  void Wait(Mutex& mutex) REQUIRES(mutex) {
    std::unique_lock lock(mutex.mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }

  // False: `deadline` has passed.
  bool WaitUntil(Mutex& mutex, std::chrono::steady_clock::time_point deadline) REQUIRES(mutex) {
    std::unique_lock lock(mutex.mutex_, std::adopt_lock);
    const bool in_time = condition_.wait_until(lock, deadline) == std::cv_status::no_timeout;
    lock.release();
    return in_time;
  }

  void NotifyOne() { condition_.notify_one(); }
  void NotifyAll() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace ratelimiter
