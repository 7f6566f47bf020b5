#include "ratelimiter/base/log.h"

#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>
#include <spdlog/formatter.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

constexpr auto kNoLimit = std::numeric_limits<std::size_t>::max();

// Writes a record's time by spdlog's own pattern, and the rest as the format
// asks.
class LineFormatter final : public spdlog::formatter {
 public:
  explicit LineFormatter(LogFormat format)
      : format_(format),
        time_("%Y-%m-%dT%H:%M:%S.%fZ", spdlog::pattern_time_type::utc, /*eol=*/"") {}

  void format(const spdlog::details::log_msg& record, spdlog::memory_buf_t& line) override {
    spdlog::memory_buf_t time;
    time_.format(record, time);
    const auto level = spdlog::level::to_string_view(record.level);
    const std::string message =
        Printable(std::string_view(record.payload.data(), record.payload.size()), kNoLimit);
    std::string text;
    if (format_ == LogFormat::kJson) {
      const nlohmann::ordered_json json = {{"time", std::string(time.data(), time.size())},
                                           {"level", std::string(level.data(), level.size())},
                                           {"message", message}};
      text = json.dump();
    } else {
      text.append(time.data(), time.size()).append(" ");
      text.append(level.data(), level.size()).append("  ").append(message);
    }
    text.push_back('\n');
    line.append(text.data(), text.data() + text.size());
  }

  std::unique_ptr<formatter> clone() const override {
    return std::make_unique<LineFormatter>(format_);
  }

 private:
  const LogFormat format_;
  spdlog::pattern_formatter time_;
};

}  // namespace

std::shared_ptr<spdlog::logger> MakeLogger(spdlog::level::level_enum level, LogFormat format) {
  auto logger = std::make_shared<spdlog::logger>("ratelimiterd",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_formatter(std::make_unique<LineFormatter>(format));
  logger->set_level(level);
  return logger;
}

std::optional<std::uint64_t> LogThrottle::Admit(std::chrono::steady_clock::time_point now) {
  const std::lock_guard lock(mutex_);
  if (last_.has_value() && now - *last_ < interval_) {
    ++left_out_;
    return std::nullopt;
  }
  last_ = now;
  return std::exchange(left_out_, 0);
}

}  // namespace ratelimiter
