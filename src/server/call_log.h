#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include "call_metadata.h"
#include "limiter/limiter.pb.h"
#include "ratelimiter/base/log.h"
#include "ratelimiter/limiter/bucket_spec.h"

namespace ratelimiter {

// The access log: which calls have a line in it, and the ids of calls that came
// without one.
//
// Thread-safe, without a lock.
class CallLog {
 public:
  // `share` of the calls have a line; none: no call has. Neither has any if `logger`
  // is off; else its level is no matter.
  CallLog(std::optional<Fraction> fraction, std::shared_ptr<Logger> logger);

  bool on() const { return on_; }

  // Whether a call has a line. Where its trace is sampled that depends on the trace's id
  // alone: with the same share all instances log the same traces, and with a greater
  // one those and others.
  bool Samples(const std::optional<TraceParent>& trace);

  // 32 hexadecimal digits, of which the first half is this instance's.
  std::string NewRequestId();

  Logger& logger() { return *logger_; }

 private:
  // Constant after construction.
  const std::shared_ptr<Logger> logger_;
  const bool on_;
  // A call is sampled whose number among all 64-bit numbers is not above it.
  const std::uint64_t highest_;
  const std::uint64_t instance_;
  const std::uint64_t seed_;

  std::atomic<std::uint64_t> count_{0};
};

// A call, from its first moment to its answer: it gives the call's id back where the
// caller sent one or the call has a line in the log, and writes that line. With the log
// off, and without ids in the metadata, it does no more than look for them.
class LoggedCall {
 public:
  // Both must outlive it.
  LoggedCall(CallLog& log, grpc::ServerContext& context) : log_(log), context_(context) {
    if (log_.on()) begun_ = std::chrono::steady_clock::now();
  }

  // To be called last, with what the call is answered. Gives `status` back.
  grpc::Status EndWith(grpc::Status status, const limiter::AllowRequestRequest& message,
                       const limiter::AllowRequestResponse& response);
  grpc::Status EndWith(grpc::Status status, const limiter::GetUsageRequest& message,
                       const limiter::GetUsageResponse& response);
  grpc::Status EndWith(grpc::Status status, const limiter::AllowRequestsRequest& message,
                       const limiter::AllowRequestsResponse& response);

 private:
  void End(const grpc::Status& status, const auto& message, const auto& response);

  CallLog& log_;
  grpc::ServerContext& context_;
  std::chrono::steady_clock::time_point begun_;
};

}  // namespace ratelimiter
