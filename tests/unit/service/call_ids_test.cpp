#include "ratelimiter/service/call_ids.h"

#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace ratelimiter {
namespace {

using std::string_view_literals::operator""sv;

constexpr std::string_view kTrace = "0af7651916cd43dd8448eb211c80319c";
constexpr std::string_view kSpan = "b7ad6b7169203331";
const std::string kIds = "-" + std::string(kTrace) + "-" + std::string(kSpan) + "-";

TEST(TraceParentTest, IsReadOfVersion00) {
  const std::string header = "00" + kIds + "01";
  const auto parent = ParseTraceParent(header);
  ASSERT_TRUE(parent.has_value());
  EXPECT_EQ(parent->trace_id, kTrace);
  EXPECT_EQ(parent->span_id, kSpan);
  EXPECT_TRUE(parent->sampled);
}

TEST(TraceParentTest, SampledIsTheLowestBitOfTheFlags) {
  for (const std::string_view flags : {"01", "03", "ff", "0b", "09"}) {
    EXPECT_TRUE(ParseTraceParent("00" + kIds + std::string(flags))->sampled) << flags;
  }
  for (const std::string_view flags : {"00", "02", "fe", "0a", "08"}) {
    EXPECT_FALSE(ParseTraceParent("00" + kIds + std::string(flags))->sampled) << flags;
  }
}

TEST(TraceParentTest, OfAHigherVersionTheSameIsRead) {
  for (const std::string_view rest : {"", "-", "-what-comes-then"}) {
    for (const std::string_view version : {"01", "cc", "fe"}) {
      const std::string header = std::string(version) + kIds + "01" + std::string(rest);
      const auto parent = ParseTraceParent(header);
      ASSERT_TRUE(parent.has_value()) << version << rest;
      EXPECT_EQ(parent->trace_id, kTrace);
      EXPECT_TRUE(parent->sampled);
    }
  }
}

TEST(TraceParentTest, AnythingElseIsNone) {
  const std::string zeros(32, '0');
  for (const std::string& header :
       {std::string(),
        std::string("00"),
        "00" + kIds,
        "00" + kIds + "0",
        "00" + kIds + "01-",
        "00" + kIds + "011",
        "00" + kIds + "01-more",
        "01" + kIds + "01more",
        "ff" + kIds + "01",
        "0F" + kIds + "01",
        "0g" + kIds + "01",
        "00" + kIds + "0G",
        " 00" + kIds + "01",
        "00" + kIds + "01 ",
        "00-" + zeros + "-" + std::string(kSpan) + "-01",
        "00-" + std::string(kTrace) + "-" + zeros.substr(16) + "-01",
        "00-0AF7651916cd43dd8448eb211c80319c-" + std::string(kSpan) + "-01",
        "00-" + std::string(kTrace) + "-B7ad6b7169203331-01",
        "00_" + std::string(kTrace) + "-" + std::string(kSpan) + "-01",
        "00-" + std::string(kTrace) + "_" + std::string(kSpan) + "-01",
        "00-" + std::string(kTrace) + "-" + std::string(kSpan) + "_01",
        std::string(8'192, '0'),
        "00-" + std::string(31, 'a') + "\n-" + std::string(kSpan) + "-01"}) {
    EXPECT_FALSE(ParseTraceParent(header).has_value()) << header;
  }
}

TEST(RequestIdTest, IsTakenOfTheseCharacters) {
  for (const std::string_view id : {"1"sv, "f47ac10b-58cc-4372-a567-0e02b2c3d479"sv,
                                    "Root=1-67891233-abcdef012345678"sv, "a.b:c/d+e=f@g_h"sv}) {
    EXPECT_TRUE(IsRequestId(id)) << id;
  }
  EXPECT_TRUE(IsRequestId(std::string(128, 'x')));
  EXPECT_FALSE(IsRequestId(std::string(129, 'x')));
  for (const std::string_view id : {""sv, "a b"sv, "a\nb"sv, "a\0b"sv, "<script>"sv, "\""sv,
                                    "a;b"sv, "a,b"sv, "é"sv, "\xFF"sv, "%0a"sv, "\\"sv, "{}"sv}) {
    EXPECT_FALSE(IsRequestId(id)) << id;
  }
}

}  // namespace
}  // namespace ratelimiter
