#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <absl/container/inlined_vector.h>

#include "ratelimiter/limiter/bucket_spec.h"
#include "ratelimiter/limiter/fail_mode.h"
#include "ratelimiter/limiter/request.h"

namespace ratelimiter {

// The paths that a limit applies to: "*" any, "/api/*" all that begin with
// "/api/", anything else that path alone.
class PathPattern {
 public:
  explicit PathPattern(std::string text = "*") : text_(std::move(text)) {}

  const std::string& text() const { return text_; }
  bool any() const { return text_ == "*"; }
  bool is_prefix() const { return text_.ends_with("/*"); }
  // What a path must begin with (for a prefix) or be.
  std::string_view literal() const {
    return std::string_view(text_).substr(0, text_.size() - (is_prefix() ? 1 : 0));
  }

  bool Matches(std::string_view path) const;
  // Whether some path matches both.
  bool Overlaps(const PathPattern& other) const;

 private:
  std::string text_;
};

// What a limit counts by: requests that agree in all of it share a bucket. All
// false and empty: every request shares one.
struct CountBy {
  bool user = true;
  bool path = false;
  // Names of attributes, sorted, each once. A request that lacks one is not
  // subject to the limit.
  std::vector<std::string> attributes{};
};

// Other numbers for the buckets of some users, paths or attribute values. It
// names only what its limit counts by: so a bucket has one set of numbers.
struct Override {
  std::optional<std::string> user{};
  std::optional<std::string> path{};
  std::map<std::string, std::string, std::less<>> attributes{};
  // None: unlimited. Capacity 0: always refused.
  std::optional<BucketSpec> spec{};

  // Precondition: the limit that it belongs to applies to the request.
  bool Matches(const Request& request) const;
};

// One limit: which requests it applies to, what it counts them by, and how many
// it lets pass.
struct Limit {
  // Part of its buckets' keys: letters, digits, '_', '-' and '.'.
  std::string name;
  PathPattern path{};
  // Attributes that a request must have, with these values.
  std::map<std::string, std::string, std::less<>> attributes{};
  CountBy by{};
  // Capacity 0: always refused; then the refill has no meaning.
  BucketSpec spec{};
  // A request of cost n pays n × cost tokens.
  std::uint64_t cost = 1;
  // True: decided and counted, but never refuses, and never makes a call invalid.
  bool shadow = false;
  // What becomes of a call whose store failed. None: the setting FAIL_MODE says it.
  std::optional<FailMode> fail_mode{};
  // The first that matches a request holds.
  std::vector<Override> overrides{};

  bool AppliesTo(const Request& request) const;

  // The names of the attributes that a request must have, sorted, each once.
  std::vector<std::string> RequiredAttributes() const;
};

// Whether some request is subject to both.
bool CanBothApply(const Limit& one, const Limit& other);

// What becomes the hash tag of the buckets' keys, and so which of them one node
// of a Redis Cluster holds together.
enum class HashBy : std::uint8_t {
  kUser,    // The user: users are spread over all nodes.
  kGlobal,  // Nothing: one node holds all.
};

// Names of buckets in a row. It allocates for more than three of the longest users.
using BucketKeys = absl::InlinedVector<char, 1024>;

// Appends the name of the bucket that the request pays from, among its limit's:
// "{tag}", and behind it, each after a ':', the values that the limit counts by
// and that are not the tag, in the order user, path, attributes by name. The tag
// is the user id, or "%all" where the limit does not count by the user or all
// hash together.
//
// In the tag '%' and '}' are written %25 and %7D, in the values '%' and ':' are
// written %25 and %3A: no value can end the tag or pass for another's bucket.
//
// Precondition: the limit applies to the request.
void AppendBucketKey(const Limit& limit, HashBy hash_by, const Request& request, BucketKeys& out);

// The same by itself.
std::string BucketKeyOf(const Limit& limit, HashBy hash_by, const Request& request);

}  // namespace ratelimiter
