#pragma once

#include <CLI/CLI.hpp>

#include "arguments.h"

namespace ratelimiter {

// The commands that ask the daemon's admin server: explain, reset, refund,
// reload, and list of `limits`, the command that holds those about all limits.
//
// The one that the command line chooses puts itself into `run`, which must
// outlive the parsing.
void AddAdminCommands(CLI::App& app, CLI::App& limits, Run& run);

}  // namespace ratelimiter
