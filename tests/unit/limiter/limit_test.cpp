#include "ratelimiter/limiter/limit.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "support/any_limits.h"

namespace ratelimiter {
namespace {

using testing::AnyLimit;
using testing::Choose;

Choose RapidChoice() {
  return [](std::size_t n) { return *rc::gen::inRange<std::size_t>(0, n); };
}

bool Matches(std::string pattern, std::string_view path) {
  return PathPattern(std::move(pattern)).Matches(path);
}

TEST(PathPatternTest, APatternWithoutAStarMatchesThatPathAlone) {
  EXPECT_TRUE(Matches("/login", "/login"));
  EXPECT_FALSE(Matches("/login", "/login/"));
  EXPECT_FALSE(Matches("/login", "/Login"));
  EXPECT_FALSE(Matches("/login", "/logi"));
  EXPECT_FALSE(Matches("/login", ""));
  EXPECT_TRUE(Matches("", ""));
  EXPECT_FALSE(Matches("", "/"));
}

TEST(PathPatternTest, APrefixMatchesEveryPathThatBeginsWithIt) {
  EXPECT_TRUE(Matches("/api/*", "/api/"));
  EXPECT_TRUE(Matches("/api/*", "/api/a"));
  EXPECT_TRUE(Matches("/api/*", "/api/a/b"));
  EXPECT_FALSE(Matches("/api/*", "/api"));
  EXPECT_FALSE(Matches("/api/*", "/apis"));
  EXPECT_FALSE(Matches("/api/*", "/v1/api/"));
  EXPECT_TRUE(Matches("/*", "/"));
  EXPECT_FALSE(Matches("/*", "a"));
}

TEST(PathPatternTest, AStarMatchesAnyPath) {
  EXPECT_TRUE(Matches("*", ""));
  EXPECT_TRUE(Matches("*", "/a"));
  EXPECT_TRUE(PathPattern().any());
}

TEST(PathPatternTest, PatternsOverlapIfSomePathMatchesBoth) {
  const std::vector<std::string> patterns = {"*", "/*", "/a/*", "/a/b/*", "/b/*", "",
                                             "/", "/a", "/a/",  "/a/b",   "/b/c", "/a/b/c"};
  for (const std::string& one : patterns) {
    for (const std::string& other : patterns) {
      const PathPattern a(one);
      const PathPattern b(other);
      // If two patterns overlap, the empty path or one of the literals matches both.
      const bool meet = std::ranges::any_of(
          std::vector<std::string>{"", std::string(a.literal()), std::string(b.literal())},
          [&](const std::string& path) { return a.Matches(path) && b.Matches(path); });
      EXPECT_EQ(a.Overlaps(b), meet) << one << " and " << other;
    }
  }
}

TEST(LimitTest, RequiresTheAttributesOfItsConditionsAndOfWhatItCountsBy) {
  const Limit limit = {.name = "l",
                       .attributes = {{"plan", "free"}, {"zone", "eu"}},
                       .by = {.attributes = {"plan", "tenant"}}};
  EXPECT_EQ(limit.RequiredAttributes(), (std::vector<std::string>{"plan", "tenant", "zone"}));
}

TEST(LimitTest, CanBothApplyIfSomeRequestMatchesBoth) {
  EXPECT_TRUE(rc::check([] {
    const Limit one = AnyLimit("one", RapidChoice());
    const Limit other = AnyLimit("other", RapidChoice());
    // If there is such a request, there is one with the attributes of both limits and the literal
    // of one of the paths.
    auto wanted = one.attributes;
    wanted.insert(other.attributes.begin(), other.attributes.end());
    for (const Limit* const limit : {&one, &other}) {
      for (const std::string& key : limit->by.attributes) wanted.emplace(key, "any");
    }
    std::vector<AttributeView> attributes;
    for (const auto& [key, value] : wanted) attributes.push_back({key, value});
    bool meet = false;
    for (const std::string_view path : {one.path.literal(), other.path.literal()}) {
      const Request request = {.user_id = "u", .path = path, .attributes = attributes};
      meet = meet || (one.AppliesTo(request) && other.AppliesTo(request));
    }
    RC_ASSERT(CanBothApply(one, other) == meet);
    RC_ASSERT(CanBothApply(other, one) == meet);
  }));
}

TEST(BucketKeyTest, HoldsTheValuesThatTheLimitCountsBy) {
  const std::vector<AttributeView> attributes = {{"zone", "eu:1"}, {"plan", "%"}};
  const Request request = {.user_id = "a}b%c{d:", .path = "/x:y}", .attributes = attributes};
  const Limit all = {.name = "l", .by = {.path = true, .attributes = {"plan", "zone"}}};
  EXPECT_EQ(BucketKeyOf(all, HashBy::kUser, request), "{a%7Db%25c{d:}:/x%3Ay}:%25:eu%3A1");
  EXPECT_EQ(BucketKeyOf(all, HashBy::kGlobal, request), "{%all}:a}b%25c{d%3A:/x%3Ay}:%25:eu%3A1");
  const Limit none = {.name = "l", .by = {.user = false}};
  EXPECT_EQ(BucketKeyOf(none, HashBy::kUser, request), "{%all}");
  EXPECT_EQ(BucketKeyOf({.name = "l"}, HashBy::kUser, {.user_id = "%all"}), "{%25all}");
}

// Text that would break out of the tag, or forge another key, without escaping.
std::string HostileText(std::size_t least) {
  const auto letters = rc::gen::container<std::string>(
      rc::gen::element('{', '}', '%', ':', '2', '5', '7', 'D', '3', 'A', 'a', 'l'));
  return *rc::gen::suchThat(rc::gen::resize(6, letters),
                            [least](const std::string& text) { return text.size() >= least; });
}

std::string Unescaped(std::string_view text) {
  std::string plain;
  while (!text.empty()) {
    const bool escaped = text.starts_with('%');
    RC_ASSERT(!escaped || text.size() >= 3);
    const std::string_view code = text.substr(0, escaped ? 3 : 1);
    RC_ASSERT(!escaped || code == "%25" || code == "%7D" || code == "%3A");
    plain += escaped ? (code == "%25" ? '%' : (code == "%7D" ? '}' : ':')) : code[0];
    text.remove_prefix(code.size());
  }
  return plain;
}

// Decodes a bucket key into its values. A key that can be decoded is unique.
std::vector<std::string> ReadBack(std::string_view bucket_key) {
  const std::size_t end = bucket_key.find('}');
  RC_ASSERT(bucket_key.starts_with('{') && end != std::string_view::npos && end > 1);
  const std::string_view tag = bucket_key.substr(1, end - 1);
  std::vector<std::string> values;
  if (tag != "%all") values.push_back(Unescaped(tag));
  bucket_key.remove_prefix(end + 1);
  while (!bucket_key.empty()) {
    RC_ASSERT(bucket_key.starts_with(':'));
    const std::size_t next = std::min(bucket_key.find(':', 1), bucket_key.size());
    values.push_back(Unescaped(bucket_key.substr(1, next - 1)));
    bucket_key.remove_prefix(next);
  }
  return values;
}

TEST(BucketKeyTest, EncodesExactlyTheValuesThatTheLimitCountsBy) {
  EXPECT_TRUE(rc::check([] {
    Limit limit = {
        .name = "l",
        .by = {.user = *rc::gen::arbitrary<bool>(), .path = *rc::gen::arbitrary<bool>()}};
    if (*rc::gen::arbitrary<bool>()) limit.by.attributes.emplace_back("k");
    if (*rc::gen::arbitrary<bool>()) limit.by.attributes.emplace_back("l");
    const HashBy hash_by = *rc::gen::element(HashBy::kUser, HashBy::kGlobal);
    const std::string user = HostileText(1);
    const std::string path = HostileText(0);
    const std::string k = HostileText(0);
    const std::string l = HostileText(0);
    const std::vector<AttributeView> attributes = {{"l", l}, {"k", k}};
    std::vector<std::string> counted;
    if (limit.by.user) counted.push_back(user);
    if (limit.by.path) counted.push_back(path);
    for (const std::string& key : limit.by.attributes) counted.push_back(key == "k" ? k : l);
    const std::string bucket_key =
        BucketKeyOf(limit, hash_by, {.user_id = user, .path = path, .attributes = attributes});
    RC_ASSERT(ReadBack(bucket_key) == counted);
  }));
}

}  // namespace
}  // namespace ratelimiter
