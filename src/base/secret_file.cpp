#include "ratelimiter/base/secret_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

constexpr std::size_t kMaxBytes = 4096;
constexpr std::size_t kMaxShownPathBytes = 200;

absl::Status Unreadable(const std::string& path, std::string_view reason) {
  return absl::UnavailableError(
      fmt::format("cannot read {}: {}", Printable(path, kMaxShownPathBytes), reason));
}

absl::Status Unreadable(const std::string& path, int error) {
  return Unreadable(path, std::generic_category().message(error));
}

// What an open file holds, up to `most` bytes.
absl::StatusOr<std::string> ReadUpTo(std::size_t most, const std::string& path, int file) {
  struct stat status{};
  if (fstat(file, &status) != 0) return Unreadable(path, errno);
  if (!S_ISREG(status.st_mode)) return Unreadable(path, "it is not a regular file");
  std::string text(most, '\0');
  std::size_t size = 0;
  while (size < most) {
    const ssize_t count = read(file, text.data() + size, most - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Unreadable(path, errno);
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
  }
  text.resize(size);
  return text;
}

absl::StatusOr<std::string> ReadUpTo(std::size_t most, const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (file < 0) return Unreadable(path, errno);
  absl::StatusOr<std::string> text = ReadUpTo(most, path, file);
  close(file);
  return text;
}

}  // namespace

absl::StatusOr<std::string> ReadRegularFile(const std::string& path, std::size_t max_bytes) {
  absl::StatusOr<std::string> text = ReadUpTo(max_bytes + 1, path);
  if (text.ok() && text->size() > max_bytes) {
    return Unreadable(path, fmt::format("it is longer than {} bytes", max_bytes));
  }
  return text;
}

absl::StatusOr<std::string> ReadSecretFile(const std::string& path) {
  absl::StatusOr<std::string> text = ReadUpTo(kMaxBytes + 1, path);
  if (!text.ok()) return text;
  std::string& line = *text;
  line.resize(std::min(line.size(), line.find('\n')));
  if (line.size() > kMaxBytes) {
    return Unreadable(path, fmt::format("its first line is longer than {} bytes", kMaxBytes));
  }
  if (line.ends_with('\r')) line.pop_back();
  if (line.empty()) return Unreadable(path, "its first line is empty");
  return text;
}

}  // namespace ratelimiter
