#pragma once

#include <exception>

namespace ratelimiter {

// While the daemon starts: whatever ends the process (an exception that nothing catches, or a
// library that aborts, mostly for lack of memory or threads), stderr says why, and the exit code
// is kExitRuntime instead of a signal.
class StartGuard {
 public:
  StartGuard();
  ~StartGuard();
  StartGuard(const StartGuard&) = delete;
  StartGuard& operator=(const StartGuard&) = delete;

 private:
  const std::terminate_handler previous_;
};

}  // namespace ratelimiter
