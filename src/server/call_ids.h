#pragma once

#include <optional>
#include <string_view>

#include <grpcpp/impl/codegen/server_context.h>

#include "ratelimiter/base/log.h"
#include "ratelimiter/limiter/request.h"

namespace ratelimiter {

// What the limiter hands back of a request: the call that it came in.
struct Origin {
  const grpc::ServerContextBase& context;
};

// A traceparent of W3C Trace Context. The ids are the header's own bytes, lower-case
// hexadecimal.
struct TraceParent {
  std::string_view trace_id;  // 32 digits.
  std::string_view span_id;   // 16: the caller's span.
  bool sampled = false;
};

// None: the header is not valid. Of a version above 00, which may have more behind, what
// 00 has is read, as the specification wants it.
std::optional<TraceParent> ParseTraceParent(std::string_view header);

// Whether a caller's x-request-id is taken: 1 to 128 letters, digits and -_.:/+=@.
bool IsRequestId(std::string_view text);

// What the metadata of a call says of it. None: it does not, not acceptably, or more
// than once.
std::optional<std::string_view> RequestIdOf(const grpc::ServerContextBase& context);
std::optional<TraceParent> TraceParentOf(const grpc::ServerContextBase& context);

void AppendTrace(const std::optional<TraceParent>& trace, LogFields& fields);

}  // namespace ratelimiter
