#pragma once

#include <string>

#include <absl/status/statusor.h>

namespace ratelimiter {

// Reads a password or token: the first line of a regular file, without its line break.
//
// Errors: FAILED_PRECONDITION, with the path and the reason and none of the content, if the
// file cannot be read (as by ReadRegularFile), its first line is empty or longer than 4096
// bytes, or it begins with a byte order mark.
absl::StatusOr<std::string> ReadSecretFile(const std::string& path);

}  // namespace ratelimiter
