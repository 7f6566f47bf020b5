#include "ratelimiter/metrics/heavy_hitters.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "ratelimiter/base/text.h"
#include "support/manual_clock.h"
#include "support/threads.h"

namespace ratelimiter {

// NOLINTNEXTLINE(misc-use-anonymous-namespace): GoogleTest looks for it beside HeavyUser.
static void PrintTo(const HeavyUser& user, std::ostream* out) {
  *out << user.user << ": " << user.count << " (error " << user.error << ")";
}

namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using testing::ManualClock;

MATCHER_P2(Is, user, count, "") {
  return arg.user == user && arg.count == static_cast<std::uint64_t>(count);
}

class HeavyHittersTest : public ::testing::Test {
 protected:
  void Count(std::string_view user, int times = 1) {
    for (int i = 0; i < times; ++i) users_.Count(user);
  }

  ManualClock clock_{1h};
  HeavyHitters users_{1'000, UserLabel::kPlain, clock_};
};

TEST_F(HeavyHittersTest, ShowsTheHeaviestFirst) {
  EXPECT_THAT(users_.Top(10), IsEmpty());
  Count("a", 2);
  Count("b", 3);
  Count("c");
  EXPECT_THAT(users_.Top(10), ElementsAre(Is("b", 3), Is("a", 2), Is("c", 1)));
  EXPECT_THAT(users_.Top(2), ElementsAre(Is("b", 3), Is("a", 2)));
  EXPECT_THAT(users_.Top(0), IsEmpty());
}

TEST_F(HeavyHittersTest, CountsExactlyWhileThereIsRoom) {
  for (int i = 0; i < 20; ++i) Count(std::to_string(i), i + 1);
  for (const HeavyUser& user : users_.Top(20)) {
    EXPECT_EQ(user.count, std::stoull(user.user) + 1);
    EXPECT_EQ(user.error, 0U);
  }
}

TEST_F(HeavyHittersTest, WhoHasNoCounterTakesOverTheLeast) {
  HeavyHitters users(1, UserLabel::kPlain, clock_);  // One set of 16.
  for (int i = 0; i < 16; ++i) {
    for (int time = 0; time <= i; ++time) users.Count(std::string(1, static_cast<char>('a' + i)));
  }
  users.Count("new");
  const auto top = users.Top(100);
  EXPECT_EQ(top.size(), 16U);
  const auto found = std::ranges::find(top, "new", &HeavyUser::user);
  ASSERT_NE(found, top.end());
  EXPECT_EQ(found->count, 2U) << "that of a, and its own";
  EXPECT_EQ(found->error, 1U);
  EXPECT_EQ(std::ranges::count(top, "a", &HeavyUser::user), 0);
}

// What Space-Saving promises, whatever comes.
RC_GTEST_PROP(HeavyHittersPropertyTest, NoCountIsTooLowOrTooHighByMoreThanItsError, ()) {
  const ManualClock clock(1h);
  HeavyHitters users(64, UserLabel::kPlain, clock);
  std::map<std::string, std::uint64_t> truth;
  const auto stream = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 400));
  for (const int number : stream) {
    // Some come more often than others.
    const std::string user = std::to_string(number * number / 400);
    users.Count(user);
    ++truth[user];
  }
  std::uint64_t sum = 0;
  for (const HeavyUser& user : users.Top(1'000)) {
    RC_ASSERT(user.count >= truth[user.user]);
    RC_ASSERT(user.count - user.error <= truth[user.user]);
    sum += user.count;
  }
  RC_ASSERT(sum == stream.size());
}

TEST_F(HeavyHittersTest, CountsFade) {
  Count("a", 1'000);
  clock_.Advance(HeavyHitters::kFade);
  EXPECT_THAT(users_.Top(1), ElementsAre(Is("a", 368)));
  Count("b", 500);
  EXPECT_THAT(users_.Top(2), ElementsAre(Is("b", 500), Is("a", 368)));
  clock_.Advance(1min);
  EXPECT_THAT(users_.Top(2), ElementsAre(Is("b", 452), Is("a", 333)));
}

TEST_F(HeavyHittersTest, WhoIsGoneForLongIsForgotten) {
  Count("a", 1'000'000);
  clock_.Advance(24h);
  EXPECT_THAT(users_.Top(10), IsEmpty());
  Count("b");
  EXPECT_THAT(users_.Top(10), ElementsAre(Is("b", 1)));
}

TEST_F(HeavyHittersTest, ASteadyUserCountsWhatComesWhileCountsFade) {
  for (int second = 0; second < 3'600; ++second) {
    Count("steady", 10);
    clock_.Advance(1s);
  }
  const auto top = users_.Top(1);
  ASSERT_EQ(top.size(), 1U);
  EXPECT_NEAR(static_cast<double>(top[0].count), 10 * 600, 60);
}

TEST_F(HeavyHittersTest, IdsThatLookAlikeAreOneUser) {
  Count("a\x01"s);
  Count("a\xFF"s, 2);
  Count(std::string(200, 'x') + "1", 2);
  Count(std::string(200, 'x') + "2", 2);
  EXPECT_THAT(users_.Top(10), ElementsAre(Is(std::string(128, 'x'), 4), Is("a\uFFFD", 3)));
}

TEST_F(HeavyHittersTest, NoIdBreaksALabel) {
  for (int first = 0; first < 256; ++first) {
    // NOLINTNEXTLINE(misc-misleading-bidirectional): what it is about.
    Count(std::string(1, static_cast<char>(first)) + "<script>\n\"\\{}\0\u202E😀"s);
    Count(std::string(127, 'x') + std::string(1, static_cast<char>(first)) + "é");
    Count(std::string(256, static_cast<char>(first)));
  }
  const auto top = users_.Top(1'000);
  EXPECT_GT(top.size(), 200U);
  for (const HeavyUser& user : top) EXPECT_EQ(Printable(user.user, 128), user.user);
}

TEST_F(HeavyHittersTest, HashesAndOffShowNoId) {
  HeavyHitters hashed(100, UserLabel::kHash, clock_);
  HeavyHitters off(100, UserLabel::kOff, clock_);
  for (const char* user : {"a", "b", "b"}) {
    hashed.Count(user);
    off.Count(user);
  }
  EXPECT_THAT(hashed.Top(10), ElementsAre(Is(LabelOf("b", UserLabel::kHash), 2),
                                          Is(LabelOf("a", UserLabel::kHash), 1)));
  EXPECT_THAT(off.Top(10), ElementsAre(Is("__all__", 3)));
}

TEST_F(HeavyHittersTest, IsExactWhileItIsLookedAt) {
  constexpr std::size_t kThreads = 4;
  constexpr int kTimes = 5'000;
  testing::OnThreads(kThreads + 1, [&](std::size_t thread) {
    if (thread < kThreads) {
      for (int i = 0; i < kTimes; ++i) users_.Count(std::to_string(i % 10));
    } else {
      for (int i = 0; i < 20; ++i) EXPECT_LE(users_.Top(20).size(), 10U);
    }
  });
  const auto top = users_.Top(20);
  EXPECT_EQ(top.size(), 10U);
  for (const HeavyUser& user : top) EXPECT_EQ(user.count, kThreads * kTimes / 10);
}

}  // namespace
}  // namespace ratelimiter
