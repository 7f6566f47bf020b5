#include "ratelimiter/base/systemd_notifier.h"

#include <systemd/sd-daemon.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include <fmt/format.h>

#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

std::chrono::microseconds Pace() {
  std::uint64_t watchdog = 0;
  if (sd_watchdog_enabled(/*unset_environment=*/0, &watchdog) <= 0) return std::chrono::hours(24);
  return std::chrono::microseconds(watchdog) / 2;
}

void Notify(const std::string& state) { sd_notify(/*unset_environment=*/0, state.c_str()); }

// One line: systemd would read the next one as a command.
std::string StatusLine(std::string_view status) {
  constexpr std::size_t kMaxBytes = 1024;
  return fmt::format("STATUS={}", Printable(status, kMaxBytes));
}

}  // namespace

SystemdNotifier::SystemdNotifier() : pace_(Pace()) {}

void SystemdNotifier::Ready(std::string_view status) const {
  Notify(fmt::format("READY=1\nWATCHDOG=1\n{}", StatusLine(status)));
}

void SystemdNotifier::Reloading() const {
  // Type=notify-reload (systemd 253) tells by the monotonic time whether this reload began
  // after its request.
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  Notify(fmt::format("RELOADING=1\nMONOTONIC_USEC={}\n{}",
                     std::chrono::duration_cast<std::chrono::microseconds>(now).count(),
                     StatusLine("Reading the files again")));
}

void SystemdNotifier::Alive(std::string_view status) const {
  Notify(fmt::format("WATCHDOG=1\n{}", StatusLine(status)));
}

void SystemdNotifier::Stopping(std::string_view status, std::chrono::microseconds within) const {
  constexpr std::chrono::microseconds kMore = std::chrono::seconds(5);
  Notify(fmt::format("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\n{}", (within + kMore).count(),
                     StatusLine(status)));
}

}  // namespace ratelimiter
