#pragma once

#include <cstddef>
#include <string>

#include <absl/status/statusor.h>

namespace ratelimiter {

// A regular file, such as a key's. Never waits for a writer, as a pipe would have it.
// Errors: UNAVAILABLE, with the path and the reason, and nothing of what is in the file.
absl::StatusOr<std::string> ReadRegularFile(const std::string& path, std::size_t max_bytes);

// The first line of such a file, without its end, as a secret. Errors: as above.
absl::StatusOr<std::string> ReadSecretFile(const std::string& path);

}  // namespace ratelimiter
