#pragma once

#include <string>

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <gmock/gmock.h>

namespace ratelimiter::testing {

inline absl::Status StatusOf(const absl::Status& status) { return status; }

template <typename T>
absl::Status StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

// A status, or a result without a value, of this code; `message` is a matcher of
// its message, or the whole of it.
MATCHER_P2(FailsWith, code, message, "") {
  const absl::Status status = StatusOf(arg);
  *result_listener << status;
  return status.code() == code &&
         ::testing::ExplainMatchResult(message, std::string(status.message()), result_listener);
}

MATCHER(Succeeds, "") {
  const absl::Status status = StatusOf(arg);
  *result_listener << status;
  return status.ok();
}

}  // namespace ratelimiter::testing
