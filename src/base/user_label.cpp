#include "ratelimiter/base/user_label.h"

#include <openssl/sha.h>

#include <array>
#include <cstddef>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

constexpr std::size_t kMaxBytes = 128;

std::string ShortHash(std::string_view text) {
  constexpr std::size_t kShownBytes = 8;
  const std::vector<unsigned char> bytes(text.begin(), text.end());
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(bytes.data(), bytes.size(), digest.data());
  return fmt::format("{:02x}", fmt::join(digest.begin(), digest.begin() + kShownBytes, ""));
}

}  // namespace

std::string LabelOf(std::string_view user, UserLabel label) {
  switch (label) {
    case UserLabel::kHash:
      return ShortHash(user);
    case UserLabel::kOff:
      return std::string(kAllUsers);
    case UserLabel::kPlain:
      break;
  }
  return Printable(user, kMaxBytes);
}

}  // namespace ratelimiter
