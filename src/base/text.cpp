#include "ratelimiter/base/text.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include <fmt/format.h>

namespace ratelimiter {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

std::uint8_t ByteAt(std::string_view text, std::size_t i) {
  return static_cast<std::uint8_t>(text[i]);
}

bool IsContinuation(std::uint8_t byte) { return (byte & 0xC0U) == 0x80U; }

// The length in bytes of the character at the beginning of `text`, which is not empty; 0 if
// the bytes there are not UTF-8. The byte ranges are Unicode's table 3-7, "Well-Formed UTF-8
// Byte Sequences".
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

// The code point of a valid character.
char32_t CodePoint(std::string_view character) {
  const std::uint8_t first = ByteAt(character, 0);
  if (character.size() == 1) return first;
  char32_t code = first & (0xFFU >> (character.size() + 1));
  for (std::size_t i = 1; i < character.size(); ++i) {
    code = (code << 6U) | (ByteAt(character, i) & 0x3FU);
  }
  return code;
}

// Characters that end a line, move a terminal's cursor, or change the direction of the text
// around them. Terminals obey the C1 range (U+0080 to U+009F) too.
bool IsControl(char32_t code) {
  return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x061C || code == 0x200E ||
         code == 0x200F || (code >= 0x2028 && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

// The names of characters that show nothing, or nothing but a space.
struct Invisible {
  char32_t first;
  char32_t last;
  std::string_view name;
};
constexpr auto kInvisible = std::to_array<Invisible>({
    {0x09, 0x09, "a tab"},
    {0x0A, 0x0A, "a line break"},
    {0x0D, 0x0D, "a line break"},
    {0x00, 0x1F, "a control character"},
    {0x7F, 0x9F, "a control character"},
    {0xA0, 0xA0, "a no-break space"},
    {0xAD, 0xAD, "a soft hyphen"},
    {0x061C, 0x061C, "a direction mark"},
    {0x2000, 0x200A, "a typographic space"},
    {0x200B, 0x200B, "a zero-width space"},
    {0x200C, 0x200D, "a zero-width joiner"},
    {0x200E, 0x200F, "a direction mark"},
    {0x2028, 0x2028, "a line separator"},
    {0x2029, 0x2029, "a paragraph separator"},
    {0x202A, 0x202E, "a direction mark"},
    {0x202F, 0x202F, "a narrow no-break space"},
    {0x205F, 0x205F, "a typographic space"},
    {0x2060, 0x2060, "a word joiner"},
    {0x2066, 0x2069, "a direction mark"},
    {0x3000, 0x3000, "an ideographic space"},
    {0xFEFF, 0xFEFF, "a byte order mark"},
});

// Empty: the character is visible. A plain space is visible between others.
std::string_view NameOfInvisible(char32_t code, bool at_an_end) {
  if (code == ' ') return at_an_end ? "a space" : std::string_view();
  const auto* const found = std::ranges::find_if(kInvisible, [&](const Invisible& range) {
    return code >= range.first && code <= range.last;
  });
  return found == kInvisible.end() ? std::string_view() : found->name;
}

// The kinds that everybody knows by name go without a code.
std::string Named(std::string_view name, char32_t code) {
  if (code == ' ' || code == '\t' || code == '\n' || code == '\r') return std::string(name);
  return fmt::format("{} (U+{:04X})", name, static_cast<std::uint32_t>(code));
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
    const bool harmless = length != 0 && !IsControl(CodePoint(character));
    const std::string_view shown = harmless ? character : kReplacement;
    if (result.size() + shown.size() > max_bytes) break;
    result.append(shown);
    text.remove_prefix(character.size());
  }
  return result;
}

std::string DescribeInvisible(std::string_view text) {
  // UTF-16, as some editors and shells write it: every other byte is a control character.
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) {
    return "begins with a byte order mark of UTF-16";
  }
  std::size_t number = 1;
  for (std::string_view rest = text; !rest.empty(); ++number) {
    const std::size_t length = CharacterLength(rest);
    if (length == 0) {
      return fmt::format("contains the byte 0x{:02X}, which is not UTF-8, at character {}",
                         ByteAt(rest, 0), number);
    }
    const char32_t code = CodePoint(rest.substr(0, length));
    const bool first = number == 1;
    // A line break may be two characters, and several may stand at the end.
    const bool last = rest.size() == length || WithoutLineBreaks(rest).empty();
    const std::string_view name = NameOfInvisible(code, first || last);
    if (!name.empty() && last) return fmt::format("ends with {}", Named(name, code));
    if (!name.empty() && first) return fmt::format("begins with {}", Named(name, code));
    if (!name.empty()) {
      return fmt::format("contains {} at character {}", Named(name, code), number);
    }
    rest.remove_prefix(length);
  }
  return {};
}

std::string_view WithoutLineBreaks(std::string_view text) {
  const std::size_t last = text.find_last_not_of("\r\n");
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

}  // namespace ratelimiter
