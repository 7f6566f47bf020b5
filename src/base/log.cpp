#include "ratelimiter/base/log.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <string>

#include "line_queue.h"
#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

using std::chrono::system_clock;

// By LogKind.
constexpr std::array<LogLimit, kLogKinds> kLimits = {{
    {},                              // other
    {},                              // access: bounded by ACCESS_LOG
    {std::chrono::seconds(1), 1},    // grpc
    {std::chrono::seconds(1), 1},    // protobuf
    {std::chrono::seconds(10), 1},   // connections
    {std::chrono::seconds(10), 1},   // store
    {std::chrono::seconds(10), 20},  // breaker
    {std::chrono::seconds(10), 20},  // readiness
    {std::chrono::seconds(10), 50},  // reload
}};

void Append(std::string_view text, fmt::memory_buffer& out) {
  out.append(text.data(), text.data() + text.size());
}

void AppendTime(system_clock::time_point time, fmt::memory_buffer& out) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(std::chrono::floor<std::chrono::microseconds>(time - day));
  fmt::format_to(std::back_inserter(out), "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
                 static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                 static_cast<unsigned>(date.day()), clock.hours().count(), clock.minutes().count(),
                 clock.seconds().count(), clock.subseconds().count());
}

// Whether no format needs quotes.
bool IsPlain(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return c > ' ' && c < '\x7F' && c != '"' && c != '\\' && c != '=';
  });
}

// A JSON string; `printable` has no characters that JSON requires to escape but these two.
void AppendQuoted(std::string_view printable, fmt::memory_buffer& out) {
  out.push_back('"');
  for (const char c : printable) {
    if (c == '"' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  out.push_back('"');
}

void AppendString(std::string_view text, std::size_t max_bytes, LogFormat format,
                  fmt::memory_buffer& out) {
  if (text.size() > max_bytes || !IsPlain(text)) {
    AppendQuoted(Printable(text, max_bytes), out);
  } else if (format == LogFormat::kJson) {
    out.push_back('"');
    Append(text, out);
    out.push_back('"');
  } else {
    Append(text, out);
  }
}

void AppendValue(const LogField& field, LogFormat format, fmt::memory_buffer& out) {
  if (const auto* const text = std::get_if<std::string_view>(&field.value); text != nullptr) {
    AppendString(*text, kMaxLogFieldBytes, format, out);
  } else if (const auto* const number = std::get_if<std::uint64_t>(&field.value);
             number != nullptr) {
    fmt::format_to(std::back_inserter(out), "{}", *number);
  } else {
    Append(std::get<bool>(field.value) ? "true" : "false", out);
  }
}

void AppendHead(LogFormat format, system_clock::time_point time, spdlog::level::level_enum level,
                std::string_view message, fmt::memory_buffer& out) {
  const auto name = spdlog::level::to_string_view(level);
  const std::string_view level_name(name.data(), name.size());
  if (format == LogFormat::kJson) {
    Append(R"({"time":")", out);
    AppendTime(time, out);
    Append(R"(","level":")", out);
    Append(level_name, out);
    Append(R"(","message":)", out);
    AppendString(message, kMaxLogMessageBytes, format, out);
  } else {
    AppendTime(time, out);
    out.push_back(' ');
    Append(level_name, out);
    Append("  ", out);
    Append(Printable(message, kMaxLogMessageBytes), out);
  }
}

}  // namespace

LogLimit LimitOf(LogKind kind) { return kLimits[static_cast<std::size_t>(kind)]; }

bool LogThrottle::Admit(std::chrono::steady_clock::time_point now) {
  constexpr unsigned kCountBits = 20;
  constexpr std::uint64_t kCountMask = (std::uint64_t{1} << kCountBits) - 1;
  const auto now_ms = static_cast<std::uint64_t>(
      std::chrono::floor<std::chrono::milliseconds>(now.time_since_epoch()).count());
  const auto interval = static_cast<std::uint64_t>(limit_.interval.count());
  std::uint64_t window = window_.load(std::memory_order_relaxed);
  while (true) {
    const std::uint64_t begun = window >> kCountBits;
    const std::uint64_t admitted = window & kCountMask;
    const bool begins = admitted == 0 || now_ms >= begun + interval;
    if (!begins && admitted >= limit_.most) return false;
    const std::uint64_t next = begins ? (now_ms << kCountBits) + 1 : window + 1;
    if (window_.compare_exchange_weak(window, next, std::memory_order_relaxed)) return true;
  }
}

struct Logger::Output {
  // What did not come into the queue, and how many of all that were dropped are told.
  struct Dropped {
    std::atomic<std::uint64_t> before{0};
    std::atomic<std::uint64_t> told{0};
  };

  explicit Output(int descriptor) : lines(descriptor, kLogKinds) {}

  std::uint64_t dropped_of(LogKind kind) const {
    const auto index = static_cast<std::size_t>(kind);
    return dropped[index].before.load(std::memory_order_relaxed) + lines.lost(index);
  }

  LineQueue lines;
  std::array<Dropped, kLogKinds> dropped{};  // By LogKind.
  std::array<LogThrottle, kLogKinds> throttles =
      []<std::size_t... Kinds>(std::index_sequence<Kinds...>) {
        return std::array<LogThrottle, kLogKinds>{LogThrottle(kLimits[Kinds])...};
      }(std::make_index_sequence<kLogKinds>());
};

Logger::Logger(spdlog::level::level_enum level, LogFormat format, int descriptor)
    : Logger(level, format, std::make_shared<Output>(descriptor)) {}

Logger::Logger(spdlog::level::level_enum level, LogFormat format, std::shared_ptr<Output> output)
    : spdlog::logger("ratelimiterd"), format_(format), output_(std::move(output)) {
  set_level(level);
}

std::shared_ptr<Logger> Logger::AtLevel(spdlog::level::level_enum level) const {
  // Not make_shared: the constructor is private.
  return std::shared_ptr<Logger>(new Logger(level, format_, output_));
}

bool Logger::Admits(LogKind kind, spdlog::level::level_enum level,
                    std::chrono::steady_clock::time_point now) {
  if (!should_log(level)) return false;
  const auto index = static_cast<std::size_t>(kind);
  if (LimitOf(kind).most == 0 || output_->throttles[index].Admit(now)) return true;
  output_->dropped[index].before.fetch_add(1, std::memory_order_relaxed);
  return false;
}

void Logger::Write(LogKind kind, spdlog::level::level_enum level, std::string_view message,
                   const LogFields& fields) {
  Put(system_clock::now(), kind, level, message, fields);
}

std::uint64_t Logger::dropped(LogKind kind) const { return output_->dropped_of(kind); }

void Logger::sink_it_(const spdlog::details::log_msg& record) {
  Put(record.time, LogKind::kOther, record.level,
      std::string_view(record.payload.data(), record.payload.size()), {});
}

void Logger::flush_() { output_->lines.Flush(); }

void Logger::Put(system_clock::time_point time, LogKind kind, spdlog::level::level_enum level,
                 std::string_view message, const LogFields& fields) {
  const auto index = static_cast<std::size_t>(kind);
  Output::Dropped& dropped = output_->dropped[index];
  const std::uint64_t all = output_->dropped_of(kind);
  std::uint64_t told = dropped.told.load(std::memory_order_relaxed);
  // Fails if another line reports them at the same time.
  const bool tells = all > told && dropped.told.compare_exchange_strong(told, all);
  const std::uint64_t untold = tells ? all - told : 0;

  fmt::memory_buffer line;
  AppendHead(format_, time, level, message, line);
  bool first = true;
  const auto append = [&](const LogField& field) {
    if (format_ == LogFormat::kJson) {
      Append(",\"", line);
      Append(field.key, line);
      Append("\":", line);
    } else {
      line.push_back(first ? '\t' : ' ');
      Append(field.key, line);
      line.push_back('=');
    }
    first = false;
    AppendValue(field, format_, line);
  };
  if (kind != LogKind::kOther) append({"kind", NameOf(kind)});
  if (untold > 0) append({"dropped", untold});
  std::ranges::for_each(fields, append);
  Append(format_ == LogFormat::kJson ? "}\n" : "\n", line);

  const bool bulk = kind == LogKind::kAccess;
  if (output_->lines.Push({line.data(), line.size()}, bulk, index)) return;
  dropped.before.fetch_add(1, std::memory_order_relaxed);
  dropped.told.fetch_sub(untold, std::memory_order_relaxed);
}

std::shared_ptr<Logger> MakeLogger(spdlog::level::level_enum level, LogFormat format) {
  return std::make_shared<Logger>(level, format, STDERR_FILENO);
}

}  // namespace ratelimiter
