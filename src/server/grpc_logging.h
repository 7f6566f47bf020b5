#pragma once

#include <memory>

#include "ratelimiter/base/log.h"

namespace ratelimiter {

// Sends what gRPC and protobuf log, which callers' garbage can cause at any
// rate, through `logger`, as kinds of their own. Both libraries have
// one log handler a process, so this is called once, before a server is built.
void RedirectLibraryLogs(std::shared_ptr<Logger> logger);

}  // namespace ratelimiter
