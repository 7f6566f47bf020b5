#pragma once

#include <chrono>
#include <string_view>

namespace ratelimiter {

// Tells systemd how the daemon is, as sd_notify(3) describes it, where systemd has asked
// to be told: by NOTIFY_SOCKET, and by WATCHDOG_USEC for how often. Elsewhere it does
// nothing. A status is one line for people, which `systemctl status` shows.
//
// Thread-safe, as long as nobody changes the environment.
class SystemdNotifier {
 public:
  SystemdNotifier();

  // How long after one Alive or Ready the next Alive is to come: half of what the watchdog
  // waits, so that it hears two. A day where there is no watchdog.
  std::chrono::microseconds pace() const { return pace_; }

  // Everything listens, or a reload is over.
  void Ready(std::string_view status) const;
  void Reloading() const;
  void Alive(std::string_view status) const;
  // From here on the watchdog is silent. The process ends `within` that time, for which, and
  // some more, systemd waits, whatever TimeoutStopSec= says.
  void Stopping(std::string_view status, std::chrono::microseconds within) const;

 private:
  const std::chrono::microseconds pace_;
};

}  // namespace ratelimiter
