#include "ratelimiter/limiter/limit_set.h"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "support/any_limits.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using testing::AnyLimits;
using testing::AnyRequest;
using testing::Choose;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::PlainMatch;
using testing::Same;

Choose RapidChoice() {
  return [](std::size_t n) { return *rc::gen::inRange<std::size_t>(0, n); };
}

std::vector<std::string> NamesOf(const MatchedLimits& matched) {
  std::vector<std::string> names;
  for (const MatchedLimit& match : matched) names.push_back(match.limit->name);
  return names;
}

TEST(LimitSetTest, MatchesLikeALinearSearch) {
  EXPECT_TRUE(rc::check([] {
    const LimitSet limits(AnyLimits(RapidChoice()), HashBy::kUser);
    for (int i = 0; i < 20; ++i) {
      const AnyRequest request(RapidChoice());
      const MatchedLimits matched = limits.Match(request.get());
      RC_ASSERT(Same(matched, PlainMatch(limits.limits(), request.get())));
      RC_ASSERT(matched.size() <= limits.most_per_call());
    }
  }));
}

TEST(LimitSetTest, MatchesInFileOrder) {
  std::vector<Limit> limits;
  limits.push_back({.name = "prefix", .path = PathPattern("/api/*")});
  limits.push_back({.name = "any"});
  limits.push_back({.name = "tenant", .by = {.attributes = {"tenant"}}});
  limits.push_back({.name = "exact", .path = PathPattern("/api/a")});
  limits.push_back({.name = "all", .path = PathPattern("/*"), .by = {.user = false}});
  const LimitSet set(std::move(limits), HashBy::kUser);
  const std::vector<AttributeView> attributes = {{"tenant", "acme"}};
  EXPECT_THAT(NamesOf(set.Match({.user_id = "u", .path = "/api/a", .attributes = attributes})),
              ElementsAre("prefix", "any", "tenant", "exact", "all"));
  EXPECT_THAT(NamesOf(set.Match({.user_id = "u", .path = "other"})), ElementsAre("any"));
  EXPECT_EQ(set.most_per_call(), 5U);
}

TEST(LimitSetTest, TheFirstMatchingOverrideApplies) {
  std::vector<Limit> limits;
  limits.push_back({.name = "l", .by = {.path = true}, .spec = {5, 1, 1s}});
  limits[0].overrides = {{.user = "vip", .path = "/free", .spec = std::nullopt},
                         {.user = "vip", .spec = BucketSpec{50, 1, 1s}},
                         {.path = "/free", .spec = BucketSpec{7, 1, 1s}}};
  const LimitSet set(std::move(limits), HashBy::kUser);
  const auto capacity = [&](std::string_view user, std::string_view path) {
    return set.Match({.user_id = user, .path = path}).at(0).spec.capacity;
  };
  EXPECT_THAT(set.Match({.user_id = "vip", .path = "/free"}), IsEmpty());
  EXPECT_EQ(capacity("vip", "/other"), 50U);
  EXPECT_EQ(capacity("other", "/free"), 7U);
  EXPECT_EQ(capacity("other", "/other"), 5U);
}

TEST(LimitSetTest, WithoutLimitsNothingMatches) {
  const LimitSet set({}, HashBy::kUser);
  EXPECT_THAT(set.Match({.user_id = "u", .path = "/"}), IsEmpty());
  EXPECT_EQ(set.most_per_call(), 0U);
}

TEST(LimitSetTest, FindsALimitByItsName) {
  std::vector<Limit> limits;
  limits.push_back({.name = "a"});
  limits.push_back({.name = "b"});
  const LimitSet set(std::move(limits), HashBy::kUser);
  EXPECT_EQ(set.Find("b"), &set.limits()[1]);
  EXPECT_EQ(set.Find("c"), nullptr);
}

// Limits that differ in the value of one attribute exclude each other.
TEST(LimitSetTest, MostPerCallDoesNotGrowWithExclusiveValues) {
  std::vector<Limit> limits;
  for (int i = 0; i < 1'000; ++i) {
    limits.push_back(
        {.name = fmt::format("l{}", i), .attributes = {{"tenant", fmt::format("t{}", i)}}});
  }
  EXPECT_EQ(LimitSet(std::move(limits), HashBy::kUser).most_per_call(), 1U);
}

}  // namespace
}  // namespace ratelimiter
