#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include <spdlog/logger.h>

namespace ratelimiter {

enum class LogFormat { kText, kJson };

// A thread-safe logger on stderr, one line a message whatever the message
// holds: control characters and bytes that are not UTF-8 are replaced, so that
// nothing a caller sends can forge a line. JSON lines have the keys time (UTC),
// level and message.
std::shared_ptr<spdlog::logger> MakeLogger(spdlog::level::level_enum level, LogFormat format);

// Bounds how often one kind of message is logged: once an interval, telling how
// many were left out since. Thread-safe.
class LogThrottle {
 public:
  explicit LogThrottle(std::chrono::steady_clock::duration interval) : interval_(interval) {}

  // The number of messages left out before this one, if it may be logged now;
  // nullopt if it is to be left out.
  std::optional<std::uint64_t> Admit(std::chrono::steady_clock::time_point now);

 private:
  const std::chrono::steady_clock::duration interval_;

  std::mutex mutex_;
  // Guarded by mutex_.
  std::optional<std::chrono::steady_clock::time_point> last_;
  std::uint64_t left_out_ = 0;
};

}  // namespace ratelimiter
