#pragma once

#include <memory>

#include <spdlog/logger.h>

namespace ratelimiter {

// Sends what gRPC and protobuf log, which callers' garbage can cause at any
// rate, through `logger`, at most one line a second each. Both libraries have
// one log handler a process, so this is called once, before a server is built.
void RedirectLibraryLogs(std::shared_ptr<spdlog::logger> logger);

}  // namespace ratelimiter
