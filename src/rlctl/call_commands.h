#pragma once

#include <CLI/CLI.hpp>

#include "arguments.h"

namespace ratelimiter {

// The commands that call the daemon's gRPC API: check, usage, healthcheck.
//
// The one that the command line chooses puts itself into `run`, which must
// outlive the parsing.
void AddCallCommands(CLI::App& app, Run& run);

}  // namespace ratelimiter
