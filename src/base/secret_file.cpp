#include "ratelimiter/base/secret_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
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

absl::StatusOr<std::string> FirstLine(const std::string& path, int file) {
  struct stat status{};
  if (fstat(file, &status) != 0) return Unreadable(path, errno);
  if (!S_ISREG(status.st_mode)) return Unreadable(path, "it is not a regular file");
  std::array<char, kMaxBytes + 1> text{};
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t count = read(file, text.data() + size, text.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Unreadable(path, errno);
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
  }
  std::string_view line(text.data(), size);
  line = line.substr(0, line.find('\n'));
  if (line.size() > kMaxBytes) {
    return Unreadable(path, fmt::format("its first line is longer than {} bytes", kMaxBytes));
  }
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.empty()) return Unreadable(path, "its first line is empty");
  return std::string(line);
}

}  // namespace

absl::StatusOr<std::string> ReadSecretFile(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (file < 0) return Unreadable(path, errno);
  absl::StatusOr<std::string> line = FirstLine(path, file);
  close(file);
  return line;
}

}  // namespace ratelimiter
