#include "ratelimiter/base/duration.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;
using namespace std::string_view_literals;

using std::chrono::microseconds;

TEST(DurationTest, ReadsAWholeNumberWithItsUnit) {
  const std::vector<std::pair<std::string_view, microseconds>> cases = {
      {"250us", 250us},  {"100ms", 100ms}, {"2s", 2s},  {"1m", 1min}, {"12h", 12h},
      {"30d", 30 * 24h}, {"0s", 0us},      {"0d", 0us}, {"0", 0us},   {"007s", 7s}};
  for (const auto& [text, duration] : cases) EXPECT_EQ(ParseDuration(text), duration) << text;
}

TEST(DurationTest, RefusesAnythingElse) {
  for (const std::string_view text :
       {""sv,    "s"sv,   "5"sv,    "00s5"sv, "-1s"sv,  "-0"sv,  "-0s"sv,    "+1s"sv, " 1s"sv,
        "1s "sv, "1 s"sv, "1.5s"sv, "1e3s"sv, "0x1s"sv, "1S"sv,  "1min"sv,   "1ns"sv, "1s1ms"sv,
        "1µs"sv, "s1"sv,  "1s\0"sv, "1\0s"sv, "1s\n"sv, "ten"sv, "1,000s"sv, "１s"sv}) {
    EXPECT_EQ(ParseDuration(text), std::nullopt) << '"' << text << '"';
  }
}

TEST(DurationTest, ReadsWhatFits64BitsOfMicrosecondsAndNoMore) {
  EXPECT_EQ(ParseDuration("9223372036854775807us"), microseconds::max());
  EXPECT_EQ(ParseDuration("106751991d"), 106'751'991 * 24h);
  for (const char* text : {"9223372036854775808us", "9223372036854776ms", "106751992d",
                           "99999999999999999999999999s", "99999999999999999999999999"}) {
    EXPECT_EQ(ParseDuration(text), std::nullopt) << text;
  }
}

TEST(DurationTest, WritesTheShortestText) {
  const std::vector<std::pair<microseconds, std::string>> cases = {
      {0us, "0s"},  {1us, "1us"}, {1000us, "1ms"},     {1500ms, "1500ms"},
      {2s, "2s"},   {60s, "1m"},  {90s, "90s"},        {60min, "1h"},
      {36h, "36h"}, {48h, "2d"},  {-1500us, "-1500us"}};
  for (const auto& [duration, text] : cases) EXPECT_EQ(FormatDuration(duration), text);
}

TEST(DurationTest, ReadsBackWhatItWrites) {
  for (const microseconds unit : {microseconds(1us), microseconds(1s), microseconds(24h)}) {
    for (microseconds duration = unit; duration < microseconds::max() / 7; duration *= 7) {
      EXPECT_EQ(ParseDuration(FormatDuration(duration)), duration);
    }
  }
}

}  // namespace
}  // namespace ratelimiter
