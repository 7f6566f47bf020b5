#include "signals.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "ratelimiter/base/time.h"
#include "ratelimiter/config/settings.h"

namespace ratelimiter {
namespace {

// The next of `signals` within `time`; 0: none came.
int Next(const sigset_t& signals, std::chrono::nanoseconds time) {
  const auto end = SaturatingAdd(std::chrono::steady_clock::now(), time);
  while (true) {
    const timespec left =
        ToTimespec(std::max(end - std::chrono::steady_clock::now(), std::chrono::nanoseconds(0)));
    const int signal = sigtimedwait(&signals, nullptr, &left);
    if (signal > 0) return signal;
    // Also interrupted when the process is stopped and continued.
    if (errno != EINTR) return 0;
  }
}

}  // namespace

Signals::Signals() {
  sigemptyset(&end_);
  sigaddset(&end_, SIGTERM);
  sigaddset(&end_, SIGINT);
  all_ = end_;
  sigaddset(&all_, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &all_, nullptr);
}

int Signals::WaitForEnd(const std::function<void()>& on_hangup, std::chrono::nanoseconds pace,
                        const std::function<void()>& on_quiet) const {
  while (true) {
    const int signal = Next(all_, pace);
    if (signal > 0 && signal != SIGHUP) return signal;
    signal == SIGHUP ? on_hangup() : on_quiet();
  }
}

bool Signals::EndsWithin(std::chrono::milliseconds time) const { return Next(end_, time) > 0; }

std::jthread Signals::ExitOnNext() const {
  return std::jthread([this](const std::stop_token& stopped) {
    constexpr std::chrono::milliseconds kInterval{50};
    while (!stopped.stop_requested()) {
      if (EndsWithin(kInterval)) _exit(kExitRuntime);
    }
  });
}

}  // namespace ratelimiter
