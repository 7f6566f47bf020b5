#include "grpc_logging.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

#include "ratelimiter/base/log.h"

namespace ratelimiter {
namespace {

class LibraryLog {
 public:
  LibraryLog(std::string_view library, std::shared_ptr<spdlog::logger> logger)
      : library_(library), logger_(std::move(logger)), throttle_(std::chrono::seconds(1)) {}

  void Write(spdlog::level::level_enum level, std::string_view message) {
    if (!logger_->should_log(level)) return;
    const auto left_out = throttle_.Admit(std::chrono::steady_clock::now());
    if (!left_out.has_value()) return;
    logger_->log(level, "{}: {} ({} more left out before)", library_, message, *left_out);
  }

 private:
  const std::string_view library_;
  const std::shared_ptr<spdlog::logger> logger_;
  LogThrottle throttle_;
};

// The handlers are plain functions: this is where they find their log.
LibraryLog& GrpcLog(std::shared_ptr<spdlog::logger> logger = nullptr) {
  static LibraryLog log("grpc", std::move(logger));
  return log;
}

LibraryLog& ProtobufLog(std::shared_ptr<spdlog::logger> logger = nullptr) {
  static LibraryLog log("protobuf", std::move(logger));
  return log;
}

void OnGrpcLog(gpr_log_func_args* record) {
  // What gRPC calls an error is a caller's broken connection as often as ours;
  // what is ours comes back as a status and is told from there.
  const auto level =
      record->severity == GPR_LOG_SEVERITY_ERROR ? spdlog::level::warn : spdlog::level::debug;
  GrpcLog().Write(level, record->message);
}

void OnProtobufLog(google::protobuf::LogLevel level, const char* /*file*/, int /*line*/,
                   const std::string& message) {
  ProtobufLog().Write(
      level >= google::protobuf::LOGLEVEL_WARNING ? spdlog::level::warn : spdlog::level::debug,
      message);
}

}  // namespace

void RedirectLibraryLogs(std::shared_ptr<spdlog::logger> logger) {
  GrpcLog(logger);
  ProtobufLog(std::move(logger));
  gpr_set_log_function(OnGrpcLog);
  google::protobuf::SetLogHandler(OnProtobufLog);
}

}  // namespace ratelimiter
