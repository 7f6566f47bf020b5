#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/container/inlined_vector.h>

#include "ratelimiter/base/fail_mode.h"
#include "ratelimiter/limiter/bucket_spec.h"
#include "ratelimiter/limiter/request.h"

namespace ratelimiter {

// The paths that a limit applies to: "*" matches every path, "/api/*" every path that begins with
// "/api/", any other pattern that path alone.
class PathPattern {
 public:
  explicit PathPattern(std::string text = "*") : text_(std::move(text)) {}

  const std::string& text() const { return text_; }
  bool any() const { return text_ == "*"; }
  bool is_prefix() const { return text_.ends_with("/*"); }
  // The prefix or the whole path to match.
  std::string_view literal() const {
    return std::string_view(text_).substr(0, text_.size() - (is_prefix() ? 1 : 0));
  }

  bool Matches(std::string_view path) const;
  // Whether some path matches both.
  bool Overlaps(const PathPattern& other) const;

 private:
  std::string text_;
};

// The key of a limit's buckets: requests with equal values share a bucket. If all are false and
// empty, every request shares one.
struct CountBy {
  bool user = true;
  bool path = false;
  // Attribute names, sorted and unique. The limit does not apply to a request that lacks one.
  std::vector<std::string> attributes{};
};

// Another spec for some users, paths or attribute values. It names only what its limit counts by,
// so that a bucket has exactly one spec.
struct Override {
  std::optional<std::string> user{};
  std::optional<std::string> path{};
  std::map<std::string, std::string, std::less<>> attributes{};
  // None: unlimited. Capacity 0: always denied.
  std::optional<BucketSpec> spec{};

  // REQUIRES: the override's limit applies to the request.
  bool Matches(const Request& request) const;
};

// One limit: the requests that it applies to, the key that it counts them by, and the rate that it
// allows.
struct Limit {
  // Part of the buckets' keys: letters, digits, '_', '-' and '.'.
  std::string name;
  PathPattern path{};
  // Attributes and values that a request must have.
  std::map<std::string, std::string, std::less<>> attributes{};
  CountBy by{};
  // Capacity 0: always denied; the refill has no meaning then.
  BucketSpec spec{};
  // A request of cost n pays n × cost tokens.
  std::uint64_t cost = 1;
  // True: decided and counted, but never denies a call and never makes one invalid.
  bool shadow = false;
  // None: the setting FAIL_MODE.
  std::optional<FailMode> fail_mode{};
  // The first that matches a request applies.
  std::vector<Override> overrides{};

  bool AppliesTo(const Request& request) const;

  // The attributes that a request must have, sorted and unique.
  std::vector<std::string> RequiredAttributes() const;
};

// Whether both can apply to the same request.
bool CanBothApply(const Limit& one, const Limit& other);

// The hash tag of the buckets' keys, which selects the node of a Redis Cluster.
enum class HashBy : std::uint8_t {
  kUser,    // The user: buckets are spread over all nodes by user.
  kGlobal,  // A constant: one node holds all buckets.
};

// Concatenated bucket keys. Sized so that three of the longest user ids need no allocation.
using BucketKeys = absl::InlinedVector<char, 1024>;

// Appends the key, unique within the limit, of the bucket that the request takes from: "{tag}",
// followed by the other values that the limit counts by, each after a ':', in the order user, path,
// attributes by name. The tag is the user id, or "%all" if the limit does not count by user or
// `hash_by` is kGlobal.
//
// '%' and '}' are escaped as %25 and %7D in the tag, '%' and ':' as %25 and %3A in the values, so
// that no value can end the tag or forge the key of another bucket.
//
// REQUIRES: the limit applies to the request.
void AppendBucketKey(const Limit& limit, HashBy hash_by, const Request& request, BucketKeys& out);

// The same as a string.
std::string BucketKeyOf(const Limit& limit, HashBy hash_by, const Request& request);

}  // namespace ratelimiter
