#pragma once

#include <CLI/CLI.hpp>

#include "arguments.h"

namespace ratelimiter {

// Adds the commands that call the daemon's admin server: explain, reset, refund and reload to
// `app`, and list to `limits`, the parent of the commands about all limits.
//
// Parsing sets `run` to the chosen command; it must outlive the parsing.
void AddAdminCommands(CLI::App& app, CLI::App& limits, Run& run);

}  // namespace ratelimiter
