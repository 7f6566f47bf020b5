#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace ratelimiter::testing {

// A child process, killed and reaped at the latest when it is destroyed. It also
// dies with the thread that started it, so that none outlives a crashed test.
class Process {
 public:
  // Its output goes to `log_path`; an empty path leaves it on the test's own.
  Process(const std::vector<std::string>& command, const std::string& log_path);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void Signal(int signal) const;
  // Has it stand still until it is sent SIGCONT; returns once it does.
  void Stop() const;
  // Waits for its end, and returns the exit code, or 128 and the signal.
  int Wait();

 private:
  pid_t pid_ = -1;
};

}  // namespace ratelimiter::testing
