#pragma once

#include <cstddef>
#include <string>

#include <absl/status/statusor.h>

namespace ratelimiter {

// Reads a whole regular file. Rejects anything else without opening it for long: reading a
// pipe or a device could block.
//
// Errors: FAILED_PRECONDITION, with the path and the reason and none of the content, if the
// file cannot be read, is not regular, or is longer than `max_bytes`.
absl::StatusOr<std::string> ReadRegularFile(const std::string& path, std::size_t max_bytes);

}  // namespace ratelimiter
