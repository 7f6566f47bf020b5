#include "ratelimiter/base/user_label.h"

#include <string>

#include <gtest/gtest.h>

namespace ratelimiter {
namespace {

TEST(UserLabelTest, AnIdIsMadeHarmlessAndCutBetweenCharacters) {
  EXPECT_EQ(LabelOf("user", UserLabel::kPlain), "user");
  EXPECT_EQ(LabelOf("a\nb\xFF", UserLabel::kPlain), "a\uFFFDb\uFFFD");
  EXPECT_EQ(LabelOf(std::string(126, 'x') + "€", UserLabel::kPlain), std::string(126, 'x'));
}

// As `printf %s user123 | sha256sum | cut -c 1-16` prints it.
TEST(UserLabelTest, AHashIsTheBeginningOfTheSha256) {
  EXPECT_EQ(LabelOf("user123", UserLabel::kHash), "e606e38b0d8c19b2");
  EXPECT_EQ(LabelOf("", UserLabel::kHash), "e3b0c44298fc1c14");
}

TEST(UserLabelTest, OffNamesNobody) {
  EXPECT_EQ(LabelOf("user", UserLabel::kOff), "__all__");
  EXPECT_EQ(LabelOf("", UserLabel::kOff), "__all__");
}

}  // namespace
}  // namespace ratelimiter
