#pragma once

#include <chrono>
#include <csignal>
#include <functional>
#include <thread>

namespace ratelimiter {

// SIGTERM, SIGINT and SIGHUP, waited for by a thread instead of handled: their work takes locks
// and does I/O, which a signal handler must not.
class Signals {
 public:
  // Blocks them in this thread and in the threads that it starts: construct it first.
  Signals();

  // Waits for SIGTERM or SIGINT and returns its number. Meanwhile calls `on_hangup` at each
  // SIGHUP, and `on_quiet` whenever none came for `pace`.
  int WaitForEnd(const std::function<void()>& on_hangup, std::chrono::nanoseconds pace,
                 const std::function<void()>& on_quiet) const;

  // Whether SIGTERM or SIGINT comes within `time`.
  bool EndsWithin(std::chrono::milliseconds time) const;

  // Ends the process at once if SIGTERM or SIGINT comes before the thread is destroyed.
  std::jthread ExitOnNext() const;

 private:
  sigset_t end_{};
  sigset_t all_{};
};

}  // namespace ratelimiter
