#pragma once

#include <cstdint>

#include <absl/container/inlined_vector.h>
#include <absl/status/status.h>

#include "limiter/limiter.pb.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/limiter/request.h"

namespace ratelimiter {

// A request as the limiter sees it, and the attributes that it refers to; its
// other strings are the message's. Not copied or moved: it points into itself.
struct TranslatedRequest {
  TranslatedRequest() = default;
  TranslatedRequest(const TranslatedRequest&) = delete;
  TranslatedRequest& operator=(const TranslatedRequest&) = delete;

  Request request{};
  absl::InlinedVector<AttributeView, kMaxAttributes> attributes{};
};

// Translate a message into `translated`. INVALID_ARGUMENT says what of it is not
// accepted.
absl::Status Translate(const limiter::AllowRequestRequest& message, TranslatedRequest& translated);
absl::Status Translate(const limiter::GetUsageRequest& message, TranslatedRequest& translated);

// Fill in a response that is empty.
void Translate(const Request& request, const Answer& answer,
               limiter::AllowRequestResponse& response);
void Translate(const Answer& answer, limiter::GetUsageResponse& response);

}  // namespace ratelimiter
