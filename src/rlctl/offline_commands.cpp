#include "offline_commands.h"

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "completion.h"
#include "output.h"
#include "ratelimiter/base/text.h"
#include "ratelimiter/config/limits_file.h"
#include "ratelimiter/config/settings.h"

namespace ratelimiter {
namespace {

struct FilesArguments {
  std::vector<std::string> names;
  bool json = false;
};

void PrintDiagnostics(const std::string& name, const LimitsFile& file) {
  for (const std::string& error : file.errors) TellError(error);
  for (const std::string& warning : file.warnings) TellError("warning: " + warning);
  if (file.errors.empty()) {
    PrintLine(fmt::format("{}: valid, {}", name, CountedLimits(file.limits->limits().size())));
  }
}

nlohmann::ordered_json ToJson(const std::string& name, const LimitsFile& file) {
  // JSON is UTF-8; a file's name may be anything.
  const auto shown = [](const std::string& text) { return Printable(text, std::string::npos); };
  nlohmann::ordered_json json = {{"file", shown(name)}, {"valid", file.errors.empty()}};
  json["errors"] = nlohmann::ordered_json::array();
  for (const std::string& error : file.errors) json["errors"].push_back(shown(error));
  json["warnings"] = nlohmann::ordered_json::array();
  for (const std::string& warning : file.warnings) json["warnings"].push_back(shown(warning));
  return json;
}

int Validate(const FilesArguments& arguments) {
  bool valid = true;
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (const std::string& name : arguments.names) {
    const LimitsFile file = ReadLimitsFile(name);
    valid = valid && file.errors.empty();
    if (arguments.json) {
      files.push_back(ToJson(name, file));
    } else {
      PrintDiagnostics(name, file);
    }
  }
  if (arguments.json) PrintJson({{"files", files}});
  return valid ? kExitOk : kExitConfig;
}

}  // namespace

void AddOfflineCommands(CLI::App& app, CLI::App& limits, Run& run) {
  const auto files = std::make_shared<FilesArguments>();
  CLI::App& validate = *limits.add_subcommand(
      "validate", "Check limits files, without a daemon: exit 0 if all are valid, 78 if not");
  validate.add_option("FILE", files->names, "Limits files, in YAML")->required()->type_name("FILE");
  AddJson(validate, files->json);
  validate.callback([files, &run] { run = [files] { return Validate(*files); }; });

  CLI::App& completion =
      *app.add_subcommand("completion", "Print a script that completes rlctl's command lines");
  completion.require_subcommand(1);
  completion.add_subcommand("bash", "For bash: source <(rlctl completion bash)")
      ->callback([&app, &run] {
        run = [&app] {
          std::cout << BashCompletion(app);
          return kExitOk;
        };
      });
}

}  // namespace ratelimiter
