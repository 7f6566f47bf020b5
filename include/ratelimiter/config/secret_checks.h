#pragma once

#include <absl/status/status.h>

#include "ratelimiter/config/settings.h"

namespace ratelimiter {

// Whether the files with secrets that the settings name can be read now. They are read again
// whenever their secret is needed. FAILED_PRECONDITION names the setting.
absl::Status CheckSecretFiles(const Settings& settings);

}  // namespace ratelimiter
