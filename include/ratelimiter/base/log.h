#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <variant>

#include <absl/container/inlined_vector.h>
#include <fmt/format.h>
#include <spdlog/logger.h>

namespace ratelimiter {

enum class LogFormat : std::uint8_t { kText, kJson };

// The kinds of lines, by what causes them. log.cpp has the table of their limits;
// docs/use/logs.md shows it.
enum class LogKind : std::uint8_t {
  kOther,        // What a start, an end or a signal causes.
  kAccess,       // A call (ACCESS_LOG).
  kGrpc,         // gRPC says something.
  kProtobuf,     // protobuf says something.
  kConnections,  // Connections are refused.
  kStore,        // The store fails calls.
  kBreaker,      // A breaker opens or closes.
  kReadiness,    // Readiness changes.
  kReload,       // The limits file or the certificate is read again.
};
// By LogKind.
inline constexpr auto kLogKindNames =
    std::to_array<std::string_view>({"other", "access", "grpc", "protobuf", "connections", "store",
                                     "breaker", "readiness", "reload"});
inline constexpr std::size_t kLogKinds = kLogKindNames.size();

constexpr std::string_view NameOf(LogKind kind) {
  return kLogKindNames[static_cast<std::size_t>(kind)];
}

// Lines of a kind that are logged: the first `most` of any `interval`. `most` 0: all.
struct LogLimit {
  std::chrono::milliseconds interval{0};
  std::uint32_t most = 0;
};
LogLimit LimitOf(LogKind kind);

// Bounds how many are admitted: the first `most`, counted from one that is admitted
// when `interval` has passed since the last such one.
//
// Thread-safe, without a lock.
class LogThrottle {
 public:
  explicit LogThrottle(LogLimit limit) : limit_(limit) {}

  bool Admit(std::chrono::steady_clock::time_point now);

 private:
  const LogLimit limit_;

  // When counting began, in milliseconds, and below that how many were admitted since:
  // one number, so that they change together. 0: none ever was.
  std::atomic<std::uint64_t> window_{0};
};

// What a line tells beside its message. A key is ours, never a caller's; a value may be
// anything. What is longer than kMaxLogFieldBytes is cut.
struct LogField {
  std::string_view key;
  std::variant<std::string_view, std::uint64_t, bool> value;
};
using LogFields = absl::InlinedVector<LogField, 24>;
inline constexpr std::size_t kMaxLogFieldBytes = 1024;
inline constexpr std::size_t kMaxLogMessageBytes = 4096;

// The log on stderr: one line a message, whatever the message and the values hold, for
// control characters and the like, and bytes that are not UTF-8, are replaced. A line
// has the time (UTC), the level, the message and its fields:
//
//   text  time level  message<tab>key=value key="a value"
//         No message and no value has a tab, and a value that could be taken for
//         something else is quoted, as in JSON.
//   JSON  {"time":…,"level":…,"message":…,"key":…}
//
// A line of any kind but kOther has the field `kind`; one before which lines of its
// kind were dropped has `dropped`, their number since the last line that told it.
// Dropped is what LimitOf does not admit, what nobody reads, and what cannot be written:
// lines are written by a thread of their own, so that no caller ever waits.
//
// Thread-safe. What is logged as with any spdlog::logger is of kind kOther.
class Logger final : public spdlog::logger {
 public:
  // `descriptor`: where lines are written. See MakeLogger.
  Logger(spdlog::level::level_enum level, LogFormat format, int descriptor);

  // The same log at another level.
  std::shared_ptr<Logger> AtLevel(spdlog::level::level_enum level) const;

  // Whether a line may be logged now; else it counts as dropped, unless the level is
  // not logged anyway.
  bool Admits(LogKind kind, spdlog::level::level_enum level,
              std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now());

  // Logs a line that was admitted, whatever its level.
  void Write(LogKind kind, spdlog::level::level_enum level, std::string_view message,
             const LogFields& fields = {});

  // Both, for a line without fields.
  template <typename... Args>
  void Limited(LogKind kind, spdlog::level::level_enum level, fmt::format_string<Args...> format,
               Args&&... args) {
    if (!Admits(kind, level)) return;
    Write(kind, level, fmt::format(format, std::forward<Args>(args)...));
  }

  // Lines of a kind that were dropped, ever.
  std::uint64_t dropped(LogKind kind) const;

 protected:
  void sink_it_(const spdlog::details::log_msg& record) override;
  // Waits until all is written, for a second at most.
  void flush_() override;

 private:
  struct Output;
  Logger(spdlog::level::level_enum level, LogFormat format, std::shared_ptr<Output> output);

  void Put(std::chrono::system_clock::time_point time, LogKind kind,
           spdlog::level::level_enum level, std::string_view message, const LogFields& fields);

  const LogFormat format_;
  // Shared by all levels of one log.
  const std::shared_ptr<Output> output_;
};

// The daemon's log, on stderr.
std::shared_ptr<Logger> MakeLogger(spdlog::level::level_enum level, LogFormat format);

}  // namespace ratelimiter
