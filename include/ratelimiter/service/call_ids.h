#pragma once

#include <optional>
#include <string_view>

#include "ratelimiter/base/log.h"
#include "ratelimiter/limiter/request.h"

namespace ratelimiter {

// A traceparent of W3C Trace Context. The ids point into the header: lower-case hexadecimal.
struct TraceParent {
  std::string_view trace_id;  // 32 digits.
  std::string_view span_id;   // 16 digits: the caller's span.
  bool sampled = false;
};

// None: the header is not valid. In versions above 00, which may append fields, those of 00 are
// read, as the specification demands.
std::optional<TraceParent> ParseTraceParent(std::string_view header);

// Whether a caller's x-request-id is accepted: 1 to 128 letters, digits and -_.:/+=@.
bool IsRequestId(std::string_view text);

// The ids that a caller gave its call, as far as they are acceptable and unambiguous. They point
// into the call's metadata.
struct CallIds {
  std::optional<std::string_view> request_id{};
  std::optional<TraceParent> trace{};
};

// The call that a request came in; implemented by fronts. Read only when the request is logged.
struct Origin {
  virtual CallIds ids() const = 0;

 protected:
  ~Origin() = default;
};

void AppendTrace(const std::optional<TraceParent>& trace, LogFields& fields);

}  // namespace ratelimiter
