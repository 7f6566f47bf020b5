#pragma once

#include <chrono>
#include <string_view>

namespace ratelimiter {

// Reports the daemon's state to systemd, as sd_notify(3) describes it, if systemd asked for it
// (NOTIFY_SOCKET, WATCHDOG_USEC); does nothing otherwise. A status is one line of text, which
// `systemctl status` shows.
//
// Thread-safe, as long as the environment does not change.
class SystemdNotifier {
 public:
  SystemdNotifier();

  // The time between Alive calls: half the watchdog's timeout, or a day without a watchdog.
  std::chrono::microseconds pace() const { return pace_; }

  // The servers listen, or a reload is over.
  void Ready(std::string_view status) const;
  void Reloading() const;
  void Alive(std::string_view status) const;
  // The watchdog stops. systemd waits `within`, and some more, for the process to end, whatever
  // TimeoutStopSec= says.
  void Stopping(std::string_view status, std::chrono::microseconds within) const;

 private:
  const std::chrono::microseconds pace_;
};

}  // namespace ratelimiter
