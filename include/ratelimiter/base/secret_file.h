#pragma once

#include <string>

#include <absl/status/statusor.h>

namespace ratelimiter {

// The first line of a regular file, without its end, as a secret. Never waits for a
// writer, as a pipe would have it. Errors: UNAVAILABLE, with the path and the reason,
// and nothing of what is in the file.
absl::StatusOr<std::string> ReadSecretFile(const std::string& path);

}  // namespace ratelimiter
