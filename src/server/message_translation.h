#pragma once

#include <cstdint>

#include <absl/container/inlined_vector.h>

#include "limiter/limiter.pb.h"
#include "ratelimiter/limiter/limiter.h"
#include "ratelimiter/limiter/request.h"

namespace ratelimiter {

using Attributes = absl::InlinedVector<AttributeView, kMaxAttributes>;

// Translate a message into a request, which Validate must check. The request points into the
// message and into `attributes`, to which its attributes are appended: reserve room for all
// requests that share it.
void Translate(const limiter::AllowRequestRequest& message, Attributes& attributes,
               Request& request);
void Translate(const limiter::GetUsageRequest& message, Attributes& attributes, Request& request);

// Fill in an empty response.
void Translate(const Request& request, const Answer& answer,
               limiter::AllowRequestResponse& response);
void Translate(const Answer& answer, limiter::GetUsageResponse& response);

}  // namespace ratelimiter
