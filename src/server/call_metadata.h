#pragma once

#include <optional>
#include <string_view>

#include <grpcpp/impl/codegen/server_context.h>

#include "ratelimiter/service/call_ids.h"

namespace ratelimiter {

// The x-request-id or traceparent in a call's metadata. None: absent, not valid, or repeated.
std::optional<std::string_view> RequestIdOf(const grpc::ServerContextBase& context);
std::optional<TraceParent> TraceParentOf(const grpc::ServerContextBase& context);

// A gRPC call as the origin of requests. `context` must outlive it.
class GrpcOrigin final : public Origin {
 public:
  explicit GrpcOrigin(const grpc::ServerContextBase& context) : context_(context) {}

  CallIds ids() const override {
    return {.request_id = RequestIdOf(context_), .trace = TraceParentOf(context_)};
  }

 private:
  const grpc::ServerContextBase& context_;
};

}  // namespace ratelimiter
