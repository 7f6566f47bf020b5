#include "status_mapping.h"

#include <chrono>
#include <cstdint>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace ratelimiter {

grpc::Status ToGrpcStatus(const Overload& overload) {
  google::rpc::RetryInfo retry;
  const auto seconds = std::chrono::floor<std::chrono::seconds>(overload.retry_delay);
  retry.mutable_retry_delay()->set_seconds(seconds.count());
  retry.mutable_retry_delay()->set_nanos(
      static_cast<std::int32_t>(std::chrono::nanoseconds(overload.retry_delay - seconds).count()));
  google::rpc::Status details;
  details.set_code(static_cast<std::int32_t>(overload.status.code()));
  details.set_message(std::string(overload.status.message()));
  details.add_details()->PackFrom(retry);
  return {static_cast<grpc::StatusCode>(overload.status.code()), details.message(),
          details.SerializeAsString()};
}

}  // namespace ratelimiter
