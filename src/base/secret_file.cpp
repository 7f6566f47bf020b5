#include "ratelimiter/base/secret_file.h"

#include <algorithm>
#include <cstddef>
#include <string_view>

#include <fmt/format.h>

#include "ratelimiter/base/regular_file.h"
#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

constexpr std::size_t kMaxFileBytes = std::size_t{64} * 1024;
constexpr std::size_t kMaxSecretBytes = 4096;

// An editor adds it, a reader does not see it, and no server knows the secret with it.
std::string_view ByteOrderMarkOf(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) return "UTF-8";
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) return "UTF-16";
  return {};
}

}  // namespace

absl::StatusOr<std::string> ReadSecretFile(const std::string& path) {
  absl::StatusOr<std::string> text = ReadRegularFile(path, kMaxFileBytes);
  if (!text.ok()) return text;
  const auto reject = [&](std::string_view reason) {
    return absl::FailedPreconditionError(
        fmt::format("cannot read {}: {}", Printable(path), reason));
  };
  if (const std::string_view encoding = ByteOrderMarkOf(*text); !encoding.empty()) {
    return reject(fmt::format("it begins with a byte order mark of {}", encoding));
  }
  std::string& line = *text;
  line.resize(std::min(line.size(), line.find('\n')));
  line.resize(WithoutLineBreaks(line).size());
  if (line.size() > kMaxSecretBytes) {
    return reject(fmt::format("its first line is longer than {} bytes", kMaxSecretBytes));
  }
  if (line.empty()) return reject("its first line is empty");
  return text;
}

}  // namespace ratelimiter
