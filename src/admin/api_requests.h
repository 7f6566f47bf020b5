#pragma once

#include <span>
#include <string_view>

#include <absl/container/inlined_vector.h>
#include <absl/status/status.h>

#include "api_json.h"
#include "ratelimiter/limiter/request.h"

namespace ratelimiter {

// A request that a body of the admin API describes. The views point into `body`.
struct AskedRequest {
  AskedRequest() = default;
  AskedRequest(const AskedRequest&) = delete;
  AskedRequest& operator=(const AskedRequest&) = delete;

  Json body{};
  absl::InlinedVector<AttributeView, kMaxAttributes> attributes{};
  Request request{};
  std::string_view limit{};
};

// Parses a JSON object that has no other members than `accepted`. Errors: INVALID_ARGUMENT,
// with what is wrong and what is accepted.
absl::Status ParseObject(std::string_view text, std::span<const std::string_view> accepted,
                         Json& object);

// Parses a request; members that are absent leave `asked` unchanged. Errors as ParseObject.
absl::Status ReadRequest(std::string_view text, std::span<const std::string_view> accepted,
                         AskedRequest& asked);

}  // namespace ratelimiter
