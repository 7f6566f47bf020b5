#include "ratelimiter/limiter/token_bucket_store.h"

#include <fmt/format.h>

namespace ratelimiter {

std::string TokenBucketStore::Key(std::string_view limit, std::string_view bucket_key) const {
  return fmt::format("{}:{}", limit, bucket_key);
}

}  // namespace ratelimiter
