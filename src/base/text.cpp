#include "ratelimiter/base/text.h"

#include <cstdint>

namespace ratelimiter {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

std::uint8_t ByteAt(std::string_view text, std::size_t i) {
  return static_cast<std::uint8_t>(text[i]);
}

bool IsContinuation(std::uint8_t byte) { return (byte & 0xC0U) == 0x80U; }

// The length in bytes of the character that `text` (not empty) begins with;
// 0 if it begins with none. The byte ranges are Unicode's table 3-7,
// "Well-Formed UTF-8 Byte Sequences".
std::size_t CharacterLength(std::string_view text) {
  const std::uint8_t first = ByteAt(text, 0);
  if (first < 0x80) return 1;
  std::size_t length = 0;
  std::uint8_t second_least = 0x80;
  std::uint8_t second_most = 0xBF;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) second_least = 0xA0;
    if (first == 0xED) second_most = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) second_least = 0x90;
    if (first == 0xF4) second_most = 0x8F;
  } else {
    return 0;
  }
  if (text.size() < length) return 0;
  if (ByteAt(text, 1) < second_least || ByteAt(text, 1) > second_most) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if (!IsContinuation(ByteAt(text, i))) return 0;
  }
  return length;
}

// C0, DEL, and the C1 range, which terminals obey too (U+0080 to U+009F); the ends of
// a line and of a paragraph (U+2028, U+2029); and what turns the direction of the text
// around it (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069), so that a reader
// sees another.
bool IsControl(std::string_view character) {
  const std::uint8_t first = ByteAt(character, 0);
  if (character.size() == 1) return first < 0x20 || first == 0x7F;
  const std::uint8_t second = ByteAt(character, 1);
  if (character.size() == 2) {
    return (first == 0xC2 && second < 0xA0) || (first == 0xD8 && second == 0x9C);
  }
  if (character.size() != 3 || first != 0xE2) return false;
  const std::uint8_t third = ByteAt(character, 2);
  return (second == 0x80 && ((third >= 0xA8 && third <= 0xAE) || third == 0x8E || third == 0x8F)) ||
         (second == 0x81 && third >= 0xA6 && third <= 0xA9);
}

}  // namespace

std::string_view ValidUtf8Prefix(std::string_view text, std::size_t max_bytes) {
  std::size_t end = 0;
  while (end < text.size()) {
    const std::size_t length = CharacterLength(text.substr(end));
    if (length == 0 || end + length > max_bytes) break;
    end += length;
  }
  return text.substr(0, end);
}

std::string Printable(std::string_view text, std::size_t max_bytes) {
  std::string result;
  while (!text.empty()) {
    const std::size_t length = CharacterLength(text);
    const std::string_view character = text.substr(0, length == 0 ? 1 : length);
    const bool harmless = length != 0 && !IsControl(character);
    const std::string_view shown = harmless ? character : kReplacement;
    if (result.size() + shown.size() > max_bytes) break;
    result.append(shown);
    text.remove_prefix(character.size());
  }
  return result;
}

}  // namespace ratelimiter
