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

// What causes a line. log.cpp has the rate limit of each kind; docs/use/logs.md shows them.
enum class LogKind : std::uint8_t {
  kOther,        // Start, end, signals.
  kAccess,       // A call (ACCESS_LOG).
  kGrpc,         // Messages of gRPC.
  kProtobuf,     // Messages of protobuf.
  kConnections,  // Rejected connections.
  kStore,        // Failures of the store.
  kBreaker,      // Circuit breakers.
  kReadiness,    // Changes of readiness.
  kReload,       // Reloads of the limits file and of certificates.
};
// By LogKind.
inline constexpr auto kLogKindNames =
    std::to_array<std::string_view>({"other", "access", "grpc", "protobuf", "connections", "store",
                                     "breaker", "readiness", "reload"});
inline constexpr std::size_t kLogKinds = kLogKindNames.size();

constexpr std::string_view NameOf(LogKind kind) {
  return kLogKindNames[static_cast<std::size_t>(kind)];
}

// The rate limit of a kind: the first `most` lines of an `interval`. `most` 0: no limit.
struct LogLimit {
  std::chrono::milliseconds interval{0};
  std::uint32_t most = 0;
};
LogLimit LimitOf(LogKind kind);

// Admits the first `most` lines of an interval. An interval begins with the first line after
// the end of the last one.
//
// Thread-safe, lock-free.
class LogThrottle {
 public:
  explicit LogThrottle(LogLimit limit) : limit_(limit) {}

  bool Admit(std::chrono::steady_clock::time_point now);

 private:
  const LogLimit limit_;

  // The interval's begin in milliseconds, and in the low bits the number of lines admitted
  // since, in one word so that they change together. 0: no line yet.
  std::atomic<std::uint64_t> window_{0};
};

// A field of a line. Keys are constants of ours; values may be anything, and are cut to
// kMaxLogFieldBytes.
struct LogField {
  std::string_view key;
  std::variant<std::string_view, std::uint64_t, bool> value;
};
using LogFields = absl::InlinedVector<LogField, 24>;
inline constexpr std::size_t kMaxLogFieldBytes = 1024;
inline constexpr std::size_t kMaxLogMessageBytes = 4096;

// The log on stderr. Every message is one line: control characters and bytes that are not UTF-8
// are replaced. A line has the time (UTC), the level, the message and its fields:
//
//   text  time level  message<tab>key=value key="a value"
//         Messages and values have no tabs; ambiguous values are quoted as in JSON.
//   JSON  {"time":…,"level":…,"message":…,"key":…}
//
// A line of a kind other than kOther has the field `kind`. `dropped` is the number of lines of
// its kind dropped since the last line with that field: because of LimitOf, a full queue, or
// a failed write. Lines are written by a separate thread, so that callers never wait.
//
// Thread-safe. Lines logged through spdlog's own methods are of kind kOther.
class Logger final : public spdlog::logger {
 public:
  // Writes to `descriptor`. Use MakeLogger for stderr.
  Logger(spdlog::level::level_enum level, LogFormat format, int descriptor);

  // The same log at another level.
  std::shared_ptr<Logger> AtLevel(spdlog::level::level_enum level) const;

  // Whether a line may be logged now. If its level is logged and the answer is no, the line
  // counts as dropped.
  bool Admits(LogKind kind, spdlog::level::level_enum level,
              std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now());

  // Logs an admitted line, at any level.
  void Write(LogKind kind, spdlog::level::level_enum level, std::string_view message,
             const LogFields& fields = {});

  // Admits and Write, for a line without fields.
  template <typename... Args>
  void Limited(LogKind kind, spdlog::level::level_enum level, fmt::format_string<Args...> format,
               Args&&... args) {
    if (!Admits(kind, level)) return;
    Write(kind, level, fmt::format(format, std::forward<Args>(args)...));
  }

  // The number of dropped lines of a kind.
  std::uint64_t dropped(LogKind kind) const;

 protected:
  void sink_it_(const spdlog::details::log_msg& record) override;
  // Waits up to a second for all lines to be written.
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
