#include "grpc_logging.h"

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>

namespace ratelimiter {
namespace {

// Where a library's log goes.
struct LibraryLog {
  const LogKind kind;
  const std::shared_ptr<Logger> logger;

  // `last`: the library ends the process behind it.
  void Write(spdlog::level::level_enum level, std::string_view message, bool last) {
    if (!last) return logger->Limited(kind, level, "{}: {}", NameOf(kind), message);
    if (logger->level() == spdlog::level::off) return;
    // However many came before: nothing else tells why.
    logger->Write(kind, spdlog::level::err, fmt::format("{}: {}", NameOf(kind), message));
    logger->flush();
  }
};

// The handlers are plain functions: this is where they find their log.
LibraryLog& GrpcLog(std::shared_ptr<Logger> logger = nullptr) {
  static LibraryLog log{LogKind::kGrpc, std::move(logger)};
  return log;
}

LibraryLog& ProtobufLog(std::shared_ptr<Logger> logger = nullptr) {
  static LibraryLog log{LogKind::kProtobuf, std::move(logger)};
  return log;
}

void OnGrpcLog(gpr_log_func_args* record) {
  // What gRPC calls an error is a caller's broken connection as often as ours;
  // what is ours comes back as a status and is told from there.
  const auto level =
      record->severity == GPR_LOG_SEVERITY_ERROR ? spdlog::level::warn : spdlog::level::debug;
  const std::string_view message = record->message;
  GrpcLog().Write(level, message, message.starts_with("assertion failed"));
}

void OnProtobufLog(google::protobuf::LogLevel level, const char* /*file*/, int /*line*/,
                   const std::string& message) {
  ProtobufLog().Write(
      level >= google::protobuf::LOGLEVEL_WARNING ? spdlog::level::warn : spdlog::level::debug,
      message, level == google::protobuf::LOGLEVEL_FATAL);
}

}  // namespace

void RedirectLibraryLogs(std::shared_ptr<Logger> logger) {
  GrpcLog(logger);
  ProtobufLog(std::move(logger));
  gpr_set_log_function(OnGrpcLog);
  google::protobuf::SetLogHandler(OnProtobufLog);
}

}  // namespace ratelimiter
