#include "ratelimiter/config/limits_reloader.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "file_watch.h"

namespace ratelimiter {
namespace {

using std::chrono::system_clock;

// Bounds the lines that a bad file adds to the log; Reload returns all errors.
constexpr std::size_t kMaxLines = 10;

void LogLines(Logger& logger, spdlog::level::level_enum level,
              const std::vector<std::string>& lines) {
  const std::size_t shown = std::min(lines.size(), kMaxLines);
  for (std::size_t i = 0; i < shown; ++i) logger.Limited(LogKind::kReload, level, "{}", lines[i]);
  if (shown < lines.size()) {
    logger.Limited(LogKind::kReload, level, "and {} more", lines.size() - shown);
  }
}

}  // namespace

LimitsReloader::LimitsReloader(std::string path, LimitsFile in_force, Apply apply,
                               std::shared_ptr<Logger> logger)
    : path_(std::move(path)),
      apply_(std::move(apply)),
      logger_(std::move(logger)),
      in_force_(in_force.limits),
      last_(std::move(in_force)),
      state_{.loaded_at = system_clock::now()},
      watch_(std::make_unique<FileWatch>(path_, logger_)),
      thread_([this] {
        while (watch_->Wait()) ReloadIfChanged();
      }) {}

LimitsReloader::~LimitsReloader() { watch_->Stop(); }

ReloadState LimitsReloader::Reload() {
  const MutexLock reading(reading_);
  const auto now = system_clock::now();
  Take(ReadLimitsFile(path_), now);
  return state();
}

ReloadState LimitsReloader::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

void LimitsReloader::ReloadIfChanged() {
  const MutexLock reading(reading_);
  const auto now = system_clock::now();
  LimitsFile file = ReadLimitsFile(path_);
  if (file.text != last_.text || file.errors != last_.errors) Take(std::move(file), now);
}

void LimitsReloader::Take(LimitsFile file, system_clock::time_point read_at) {
  if (file.errors.empty()) {
    apply_(file.limits);
    // The replaced limits are kept until the next reload, so that no call has to destroy them.
    replaced_ = std::exchange(in_force_, file.limits);
    logger_->Limited(LogKind::kReload, spdlog::level::info, "reloaded: {} limits of {}",
                     file.limits->limits().size(), path_);
    LogLines(*logger_, spdlog::level::warn, file.warnings);
  } else {
    logger_->Limited(LogKind::kReload, spdlog::level::err,
                     "not reloaded, the old limits stay: {} is not accepted", path_);
    LogLines(*logger_, spdlog::level::err, file.errors);
  }
  {
    const MutexLock lock(mutex_);
    ++(file.errors.empty() ? state_.succeeded : state_.failed);
    if (file.errors.empty()) state_.loaded_at = read_at;
    state_.errors = file.errors;
  }
  last_ = std::move(file);
}

}  // namespace ratelimiter
