#include "ratelimiter/base/regular_file.h"

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

absl::Status Unreadable(const std::string& path, std::string_view reason) {
  const std::string invisible = DescribeInvisible(path);
  return absl::FailedPreconditionError(fmt::format("cannot read {}: {}{}{}", Printable(path),
                                                   reason, invisible.empty() ? "" : "; the path ",
                                                   invisible));
}

absl::Status Unreadable(const std::string& path, int error) {
  return Unreadable(path, std::generic_category().message(error));
}

absl::StatusOr<std::string> ReadDescriptor(int descriptor, const std::string& path,
                                           std::size_t max_bytes) {
  struct stat status{};
  if (fstat(descriptor, &status) != 0) return Unreadable(path, errno);
  if (!S_ISREG(status.st_mode)) return Unreadable(path, "it is not a regular file");

  // One byte more than expected detects a file that grows, or exceeds the bound. Files of
  // /proc say that they are empty.
  std::size_t expected = std::max<std::size_t>(static_cast<std::size_t>(status.st_size), 4096);
  std::string text;
  std::size_t size = 0;
  while (size <= max_bytes) {
    text.resize(std::min(expected, max_bytes) + 1);
    const ssize_t count = read(descriptor, text.data() + size, text.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Unreadable(path, errno);
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
    if (size == text.size()) expected *= 2;
  }
  if (size > max_bytes) {
    return Unreadable(path, fmt::format("it is longer than {} bytes", max_bytes));
  }
  text.resize(size);
  return text;
}

}  // namespace

absl::StatusOr<std::string> ReadRegularFile(const std::string& path, std::size_t max_bytes) {
  // O_NONBLOCK: opening a pipe would wait for its writer.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (descriptor < 0) return Unreadable(path, errno);
  absl::StatusOr<std::string> text = ReadDescriptor(descriptor, path, max_bytes);
  close(descriptor);
  return text;
}

}  // namespace ratelimiter
