#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <memory>
#include <regex>
#include <string>

#include "ratelimiter/base/log.h"

namespace ratelimiter::testing {

// A log that a test reads. It must outlive who logs to it.
class LogFile {
 public:
  explicit LogFile(LogFormat format = LogFormat::kText,
                   spdlog::level::level_enum level = spdlog::level::info)
      : descriptor_(memfd_create("log", MFD_CLOEXEC)),
        logger_(std::make_shared<Logger>(level, format, descriptor_)) {}
  ~LogFile() {
    logger_.reset();
    close(descriptor_);
  }
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  const std::shared_ptr<Logger>& logger() const { return logger_; }

  // What was logged, as it is written.
  std::string text() const {
    // Each waits for a second at most, and not at all once all is written.
    for (int i = 0; i < 10; ++i) logger_->flush();
    std::string text(static_cast<std::size_t>(lseek(descriptor_, 0, SEEK_END)), '\0');
    const ssize_t size = pread(descriptor_, text.data(), text.size(), 0);
    text.resize(static_cast<std::size_t>(size));
    return text;
  }
  // The same without the times of a log of text.
  std::string untimed() const {
    return std::regex_replace(text(), std::regex("(^|\n)[0-9T:.-]{26}Z "), "$1");
  }

 private:
  const int descriptor_;
  std::shared_ptr<Logger> logger_;
};

}  // namespace ratelimiter::testing
