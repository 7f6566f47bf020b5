// Any bytes as a limits file. What is accepted must be enforceable, and must
// match requests, made of what the file names and of the bytes themselves, as
// its plain meaning says. What is not must say why, a line an error.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ratelimiter/base/text.h"
#include "ratelimiter/config/limits_file.h"
#include "require.h"
#include "support/any_limits.h"

namespace ratelimiter {
namespace {

void CheckLines(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) {
    Require(line.starts_with("f:") && line.find("; accepted: ") != std::string::npos,
            "a message has its form");
    Require(Printable(line, line.size()) == line, "a message is one line, printable");
  }
}

bool IsText(std::string_view text, std::size_t most) { return ValidUtf8Prefix(text, most) == text; }

void CheckSpec(const BucketSpec& spec) {
  Require(spec == BucketSpec{} || Validate(spec).ok(), "a quota can be enforced");
}

void CheckLimit(const Limit& limit) {
  CheckSpec(limit.spec);
  Require(!limit.name.empty() && limit.name.size() <= 64, "a limit has a name");
  Require(limit.RequiredAttributes().size() <= kMaxAttributes, "a limit can be reached");
  Require(IsText(limit.path.text(), kMaxPathBytes), "a path can be a request's");
  for (const auto& [key, value] : limit.attributes) {
    Require(IsText(key, kMaxAttributeKeyBytes) && IsText(value, kMaxAttributeValueBytes),
            "an attribute can be a request's");
  }
  Require(std::ranges::is_sorted(limit.by.attributes), "attributes to count by are sorted");
  for (const Override& override : limit.overrides) {
    if (override.spec.has_value()) CheckSpec(*override.spec);
    Require((!override.user.has_value() || limit.by.user) &&
                (!override.path.has_value() || limit.by.path) &&
                std::ranges::all_of(override.attributes,
                                    [&](const auto& attribute) {
                                      return std::ranges::binary_search(limit.by.attributes,
                                                                        attribute.first);
                                    }),
            "an override names what its limit counts by");
  }
}

// What requests are made of.
struct Words {
  std::vector<std::string_view> users = {"u", "}{%"};
  std::vector<std::string_view> paths = {"", "/"};
  std::set<std::string_view> keys;
  std::vector<std::string_view> values = {"", ":%3A"};
};

Words WordsOf(const LimitSet& limits, std::string_view bytes) {
  Words words;
  words.users.push_back(bytes);
  words.paths.push_back(bytes);
  const auto add_attributes = [&](const auto& attributes) {
    for (const auto& [key, value] : attributes) {
      words.keys.insert(key);
      words.values.push_back(value);
    }
  };
  for (const Limit& limit : limits.limits()) {
    words.paths.push_back(limit.path.literal());
    add_attributes(limit.attributes);
    words.keys.insert(limit.by.attributes.begin(), limit.by.attributes.end());
    for (const Override& override : limit.overrides) {
      if (override.user.has_value()) words.users.push_back(*override.user);
      if (override.path.has_value()) words.paths.push_back(*override.path);
      add_attributes(override.attributes);
    }
  }
  return words;
}

void CheckBucketKey(const Limit& limit, HashBy hash_by, const Request& request, std::string& tag) {
  const std::string bucket_key = BucketKeyOf(limit, hash_by, request);
  const std::size_t end = bucket_key.find('}');
  Require(bucket_key.starts_with('{') && end != std::string::npos && end > 1 &&
              (end + 1 == bucket_key.size() || bucket_key[end + 1] == ':'),
          "a subject begins with its tag");
  const std::string own = bucket_key.substr(0, end);
  Require(tag.empty() || tag == own, "all keys of a call have one tag");
  tag = own;
}

void CheckRequest(const LimitSet& limits, const Request& request) {
  const MatchedLimits matched = limits.Match(request);
  Require(testing::Same(matched, testing::PlainMatch(limits.limits(), request)),
          "the index finds what is meant");
  Require(matched.size() <= limits.most_per_call() && limits.most_per_call() <= kMaxLimitsPerCall,
          "no call has more limits than is said");
  std::string tag;
  for (const MatchedLimit& match : matched) {
    CheckBucketKey(*match.limit, limits.hash_by(), request, tag);
  }
}

void CheckMatching(const LimitSet& limits, std::string_view bytes) {
  const Words words = WordsOf(limits, bytes);
  std::uint64_t random = bytes.size();
  for (const char c : bytes) random = random * 31 + static_cast<unsigned char>(c);
  const auto choose = [&random](std::size_t n) {
    random = random * 6'364'136'223'846'793'005U + 1'442'695'040'888'963'407U;
    return static_cast<std::size_t>(random >> 33U) % n;
  };
  const auto one_of = [&](const auto& some) { return some[choose(some.size())]; };
  for (int i = 0; i < 16; ++i) {
    std::vector<AttributeView> attributes;
    for (const std::string_view key : words.keys) {
      if (choose(4) != 0) attributes.push_back({key, one_of(words.values)});
    }
    CheckRequest(
        limits,
        {.user_id = one_of(words.users), .path = one_of(words.paths), .attributes = attributes});
  }
}

void CheckFile(const std::string& bytes) {
  const LimitsFile file = ParseLimits(bytes, "f");
  CheckLines(file.errors);
  CheckLines(file.warnings);
  Require((file.limits == nullptr) == !file.errors.empty(), "there are limits, or errors");
  if (file.limits == nullptr) return;
  Require(!file.limits->limits().empty(), "an accepted file has limits");
  for (const Limit& limit : file.limits->limits()) CheckLimit(limit);
  CheckMatching(*file.limits, bytes);
}

}  // namespace
}  // namespace ratelimiter

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ratelimiter::CheckFile({data, data + size});
  return 0;
}
