#include "call_metadata.h"

#include <iterator>

namespace ratelimiter {
namespace {

std::optional<std::string_view> Only(const grpc::ServerContextBase& context, const char* key) {
  const auto& metadata = context.client_metadata();
  const auto [first, last] = metadata.equal_range(key);
  if (first == last || std::next(first) != last) return std::nullopt;
  return std::string_view(first->second.data(), first->second.size());
}

}  // namespace

std::optional<std::string_view> RequestIdOf(const grpc::ServerContextBase& context) {
  const auto sent = Only(context, "x-request-id");
  return sent.has_value() && IsRequestId(*sent) ? sent : std::nullopt;
}

std::optional<TraceParent> TraceParentOf(const grpc::ServerContextBase& context) {
  const auto sent = Only(context, "traceparent");
  return sent.has_value() ? ParseTraceParent(*sent) : std::nullopt;
}

}  // namespace ratelimiter
