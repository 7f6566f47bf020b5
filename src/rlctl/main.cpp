// rlctl: the daemon's command-line companion.

#include <iostream>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "admin_commands.h"
#include "arguments.h"
#include "bench_command.h"
#include "call_commands.h"
#include "offline_commands.h"
#include "output.h"
#include "ratelimiter/config/settings.h"

namespace ratelimiter {
namespace {

// The command that the words name, for the hint at its help.
std::string ChosenCommand(const CLI::App& app) {
  std::string name = app.get_name();
  for (const CLI::App* sub : app.get_subcommands()) name += ' ' + ChosenCommand(*sub);
  return name;
}

int Main(int argc, char** argv) {
  CLI::App app("Talks to ratelimiterd.", "rlctl");
  app.set_version_flag("--version", "rlctl " RATELIMITER_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 done, 1 failed, 2 a command line that is not accepted, 3 refused (check),\n"
      "78 an invalid limits file. Colours: on a terminal, unless NO_COLOR is set.");

  Run run;
  AddCallCommands(app, run);
  AddBenchCommand(app, run);
  CLI::App& limits = *app.add_subcommand("limits", "List or validate limits");
  limits.require_subcommand(1);
  AddAdminCommands(app, limits, run);
  AddOfflineCommands(app, limits, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    TellError(fmt::format("rlctl: {}; see {} --help", error.what(), ChosenCommand(app)));
    return kExitUsage;
  }
  const int code = run();
  if (std::cout.flush()) return code;
  TellError("rlctl: stdout cannot be written to");
  return kExitRuntime;
}

}  // namespace
}  // namespace ratelimiter

int main(int argc, char** argv) { return ratelimiter::Main(argc, argv); }
