#pragma once

#include <CLI/CLI.hpp>

#include "arguments.h"

namespace ratelimiter {

// bench, which measures a running daemon.
//
// If the command line chooses it, it puts itself into `run`, which must outlive
// the parsing.
void AddBenchCommand(CLI::App& app, Run& run);

}  // namespace ratelimiter
