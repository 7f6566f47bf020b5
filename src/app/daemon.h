#pragma once

#include "ratelimiter/config/settings.h"

namespace ratelimiter {

// Runs the daemon until SIGTERM or SIGINT, drains it, and returns its exit code. Once a process.
int RunDaemon(const Settings& settings);

}  // namespace ratelimiter
