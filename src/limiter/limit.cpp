#include "ratelimiter/limiter/limit.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace ratelimiter {
namespace {

constexpr std::string_view kTagOfAll = "%all";

void Append(std::string_view text, BucketKeys& out) {
  out.insert(out.end(), text.begin(), text.end());
}

// Appends `text` with '%' and `reserved` written as %XX.
void AppendEscaped(std::string_view text, char reserved, std::string_view escape, BucketKeys& out) {
  const std::array<char, 2> special = {'%', reserved};
  while (!text.empty()) {
    const std::size_t plain = std::min(text.size(), text.find_first_of(special.data(), 0, 2));
    Append(text.substr(0, plain), out);
    text.remove_prefix(plain);
    if (text.empty()) return;
    Append(text.front() == '%' ? "%25" : escape, out);
    text.remove_prefix(1);
  }
}

// Whether two sets of conditions can hold at once: none names the same attribute with another
// value.
bool Agree(const auto& one, const auto& other) {
  return std::ranges::all_of(one, [&](const auto& condition) {
    const auto found = other.find(condition.first);
    return found == other.end() || found->second == condition.second;
  });
}

}  // namespace

bool PathPattern::Matches(std::string_view path) const {
  if (any()) return true;
  return is_prefix() ? path.starts_with(literal()) : path == literal();
}

bool PathPattern::Overlaps(const PathPattern& other) const {
  if (any() || other.any()) return true;
  if (is_prefix() && other.is_prefix()) {
    return literal().starts_with(other.literal()) || other.literal().starts_with(literal());
  }
  return is_prefix() ? Matches(other.literal()) : other.Matches(literal());
}

bool Override::Matches(const Request& request) const {
  return (!user.has_value() || *user == request.user_id) &&
         (!path.has_value() || *path == request.path) &&
         std::ranges::all_of(attributes, [&](const auto& attribute) {
           return request.Attribute(attribute.first) == attribute.second;
         });
}

bool Limit::AppliesTo(const Request& request) const {
  return path.Matches(request.path) &&
         std::ranges::all_of(attributes,
                             [&](const auto& attribute) {
                               return request.Attribute(attribute.first) == attribute.second;
                             }) &&
         std::ranges::all_of(by.attributes, [&](const std::string& key) {
           return request.Attribute(key).has_value();
         });
}

std::vector<std::string> Limit::RequiredAttributes() const {
  std::vector<std::string> required = by.attributes;
  for (const auto& [key, value] : attributes) {
    if (std::ranges::find(by.attributes, key) == by.attributes.end()) required.push_back(key);
  }
  std::ranges::sort(required);
  return required;
}

bool CanBothApply(const Limit& one, const Limit& other) {
  return one.path.Overlaps(other.path) && Agree(one.attributes, other.attributes);
}

void AppendBucketKey(const Limit& limit, HashBy hash_by, const Request& request, BucketKeys& out) {
  const bool tag_is_user = limit.by.user && hash_by == HashBy::kUser;
  out.push_back('{');
  if (tag_is_user) {
    AppendEscaped(request.user_id, '}', "%7D", out);
  } else {
    Append(kTagOfAll, out);
  }
  out.push_back('}');
  const auto append_value = [&out](std::string_view value) {
    out.push_back(':');
    AppendEscaped(value, ':', "%3A", out);
  };
  if (limit.by.user && !tag_is_user) append_value(request.user_id);
  if (limit.by.path) append_value(request.path);
  for (const std::string& key : limit.by.attributes) {
    append_value(request.Attribute(key).value_or(std::string_view()));
  }
}

std::string BucketKeyOf(const Limit& limit, HashBy hash_by, const Request& request) {
  BucketKeys bucket_key;
  AppendBucketKey(limit, hash_by, request, bucket_key);
  return {bucket_key.data(), bucket_key.size()};
}

}  // namespace ratelimiter
