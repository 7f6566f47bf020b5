#pragma once

#include <cstdint>

#include <absl/container/inlined_vector.h>
#include <absl/status/status.h>

#include "limiter/limiter.pb.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/limiter/request.h"

namespace ratelimiter {

using Attributes = absl::InlinedVector<AttributeView, kMaxAttributes>;

// Translate a message into a request. Its strings stay the message's; its attributes
// are appended to `attributes` and are referred to there, so that room for all must
// be reserved where several requests share it. INVALID_ARGUMENT says what of the
// message is not accepted.
absl::Status Translate(const limiter::AllowRequestRequest& message, Attributes& attributes,
                       Request& request);
absl::Status Translate(const limiter::GetUsageRequest& message, Attributes& attributes,
                       Request& request);

// Fill in a response that is empty.
void Translate(const Request& request, const Answer& answer,
               limiter::AllowRequestResponse& response);
void Translate(const Answer& answer, limiter::GetUsageResponse& response);

}  // namespace ratelimiter
