#include "ratelimiter/base/text.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace ratelimiter {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;

const std::string kReplacement = "\uFFFD";
constexpr std::size_t kNoLimit = std::string::npos;

// The first and the last character of every row of Unicode's table of
// well-formed byte sequences.
constexpr std::string_view kCharacters[] = {"\0"sv,
                                            "\x7F"sv,
                                            "\xC2\x80"sv,
                                            "\xDF\xBF"sv,
                                            "\xE0\xA0\x80"sv,
                                            "\xE0\xBF\xBF"sv,
                                            "\xE1\x80\x80"sv,
                                            "\xEC\xBF\xBF"sv,
                                            "\xED\x80\x80"sv,
                                            "\xED\x9F\xBF"sv,
                                            "\xEE\x80\x80"sv,
                                            "\xEF\xBF\xBF"sv,
                                            "\xF0\x90\x80\x80"sv,
                                            "\xF0\xBF\xBF\xBF"sv,
                                            "\xF1\x80\x80\x80"sv,
                                            "\xF3\xBF\xBF\xBF"sv,
                                            "\xF4\x80\x80\x80"sv,
                                            "\xF4\x8F\xBF\xBF"sv};

constexpr std::string_view kIllFormed[] = {
    "\x80"sv,
    "\xBF"sv,
    "\xFE"sv,
    "\xFF"sv,  // no first byte
    "\xC0\x80"sv,
    "\xC1\xBF"sv,
    "\xE0\x80\x80"sv,
    "\xE0\x9F\xBF"sv,  // overlong
    "\xF0\x80\x80\x80"sv,
    "\xF0\x8F\xBF\xBF"sv,  // overlong
    "\xED\xA0\x80"sv,
    "\xED\xBF\xBF"sv,  // surrogates
    "\xF4\x90\x80\x80"sv,
    "\xF5\x80\x80\x80"sv,
    "\xF8\x88\x80\x80\x80"sv,  // too large
    "\xC3"sv,
    "\xE2\x82"sv,
    "\xF0\x9F"sv,
    "\xF0\x9F\x98"sv,  // truncated
    "\xC3("sv,
    "\xE2(\xA1"sv,
    "\xE2\x82("sv,
    "\xF0(\x8C\xBC"sv,
    "\xF0\x90\x8C("sv  // interrupted
};

TEST(ValidUtf8PrefixTest, TakesEveryCharacter) {
  for (const std::string_view character : kCharacters) {
    const std::string text = "a" + std::string(character) + "z";
    EXPECT_EQ(ValidUtf8Prefix(text, kNoLimit), text);
  }
}

TEST(ValidUtf8PrefixTest, StopsBeforeBytesThatAreNoCharacter) {
  for (const std::string_view bytes : kIllFormed) {
    EXPECT_EQ(ValidUtf8Prefix("aé" + std::string(bytes), kNoLimit), "aé");
    EXPECT_EQ(ValidUtf8Prefix("aé" + std::string(bytes) + "z", kNoLimit), "aé");
  }
}

TEST(ValidUtf8PrefixTest, CutsBetweenCharacters) {
  const std::string_view cut[] = {"", "a", "a", "a", "a€", "a€", "a€", "a€", "a€😀", "a€😀z"};
  for (std::size_t bytes = 0; bytes < std::size(cut); ++bytes) {
    EXPECT_EQ(ValidUtf8Prefix("a€😀z", bytes), cut[bytes]) << bytes;
  }
}

TEST(PrintableTest, KeepsWhatIsHarmless) {
  for (const std::string_view text : {""sv, "user-42"sv, " \"\\{}%~"sv, "é€😀"sv, "\u00A0"sv}) {
    EXPECT_EQ(Printable(text, kNoLimit), text);
  }
}

TEST(PrintableTest, ReplacesControlCharacters) {
  for (const std::string_view control : {"\0"sv, "\n"sv, "\r"sv, "\t"sv, "\x1B"sv, "\x1F"sv,
                                         "\x7F"sv, "\u0080"sv, "\u0085"sv, "\u009F"sv}) {
    EXPECT_EQ(Printable("a" + std::string(control) + "z", kNoLimit), "a" + kReplacement + "z");
  }
}

TEST(PrintableTest, ReplacesWhatEndsALineOrTurnsTheDirection) {
  for (const char* const character :
       // NOLINTNEXTLINE(misc-misleading-bidirectional): what it is about.
       {"\u061C", "\u200E", "\u200F", "\u2028", "\u2029", "\u202A", "\u202E", "\u2066", "\u2069"}) {
    EXPECT_EQ(Printable("a" + std::string(character) + "z", kNoLimit), "a" + kReplacement + "z");
  }
  for (const std::string_view beside : {"\u2027"sv, "\u202F"sv, "\u2065"sv, "\u206A"sv}) {
    EXPECT_EQ(Printable(beside, kNoLimit), beside);
  }
}

TEST(PrintableTest, ReplacesEachByteThatIsNotUtf8) {
  EXPECT_EQ(Printable("a\xE2\x82z", kNoLimit), "a" + kReplacement + kReplacement + "z");
  for (const std::string_view bytes : kIllFormed) {
    EXPECT_TRUE(Printable(bytes, kNoLimit).starts_with(kReplacement));
  }
}

TEST(PrintableTest, IsValidUtf8WhateverComes) {
  std::string every_pair;
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      every_pair += static_cast<char>(first);
      every_pair += static_cast<char>(second);
    }
  }
  const std::string printable = Printable(every_pair, kNoLimit);
  EXPECT_EQ(ValidUtf8Prefix(printable, kNoLimit), printable);
  EXPECT_EQ(Printable(printable, kNoLimit), printable);
}

TEST(PrintableTest, IsBoundedByWhatItShowsNotByWhatCame) {
  EXPECT_EQ(Printable("a€z", 3), "a");
  EXPECT_EQ(Printable("a€z", 4), "a€");
  EXPECT_EQ(Printable("\n\n", 5), kReplacement);
  EXPECT_EQ(Printable("\n\n", 6), kReplacement + kReplacement);
  EXPECT_EQ(Printable("a", 0), "");
}

TEST(DescribeInvisibleTest, SaysWhatAReaderDoesNotSeeAndWhere) {
  const std::vector<std::pair<std::string_view, std::string_view>> cases = {
      {"", ""},
      {"redis://127.0.0.1:6379", ""},
      {"two words é€😀", ""},
      {"50051\n", "ends with a line break"},
      {"50051\r\n\n", "ends with a line break"},
      {"50051 ", "ends with a space"},
      {"50051\t", "ends with a tab"},
      {" 50051", "begins with a space"},
      {"50\n051", "contains a line break at character 3"},
      {"50\u00A0051", "contains a no-break space (U+00A0) at character 3"},
      {"é\u200Bx", "contains a zero-width space (U+200B) at character 2"},
      {"\uFEFF50051", "begins with a byte order mark (U+FEFF)"},
      {"50051\u00A0", "ends with a no-break space (U+00A0)"},
      // NOLINTNEXTLINE(misc-misleading-bidirectional): what it is about.
      {"a\u202Eb", "contains a direction mark (U+202E) at character 2"},
      {"a\x1Bz", "contains a control character (U+001B) at character 2"},
      {"a\0z"sv, "contains a control character (U+0000) at character 2"},
      {"\xFF\xFE"
       "5\0"sv,
       "begins with a byte order mark of UTF-16"},
      {"a\xC3z", "contains the byte 0xC3, which is not UTF-8, at character 2"}};
  for (const auto& [text, description] : cases) {
    EXPECT_EQ(DescribeInvisible(text), description) << Printable(text);
  }
}

TEST(WithoutLineBreaksTest, CutsThemAtTheEndAlone) {
  EXPECT_EQ(WithoutLineBreaks("secret\r\n\n"), "secret");
  EXPECT_EQ(WithoutLineBreaks("\nsec\nret "), "\nsec\nret ");
  EXPECT_EQ(WithoutLineBreaks("\n"), "");
}

}  // namespace
}  // namespace ratelimiter
