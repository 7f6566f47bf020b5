#pragma once

#include <CLI/CLI.hpp>

#include "arguments.h"

namespace ratelimiter {

// The commands that need no daemon: completion, and validate of `limits`, the
// command that holds those about all limits.
//
// The one that the command line chooses puts itself into `run`, which must
// outlive the parsing, as must `app`.
void AddOfflineCommands(CLI::App& app, CLI::App& limits, Run& run);

}  // namespace ratelimiter
