#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace ratelimiter {

// A script that teaches bash to complete the commands and options of `app`, as
// they are in it. An argument whose type is called FILE is completed with files.
std::string BashCompletion(const CLI::App& app);

}  // namespace ratelimiter
