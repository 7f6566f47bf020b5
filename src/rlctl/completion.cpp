#include "completion.h"

#include <fmt/format.h>

namespace ratelimiter {
namespace {

// What the script knows of all commands: the arms of its `case` statements.
struct Arms {
  std::string commands;  // Those that a word leads to.
  std::string words;     // What may stand behind a command.
  std::string values;    // Options that a value follows.
};

void Collect(const CLI::App& app, const std::string& command, Arms& arms) {
  std::string words;
  std::string files;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      words += fmt::format("--{} ", name);
      if (option->get_items_expected_max() > 0) {
        arms.values += fmt::format("{}'{} --{}'", arms.values.empty() ? "" : "|", command, name);
      }
    }
    if (option->get_positional() && option->get_type_name() == "FILE") files = " files=yes";
  }
  for (const CLI::App* sub : app.get_subcommands({})) {
    words += sub->get_name() + ' ';
    const std::string name = fmt::format("{} {}", command, sub->get_name());
    arms.commands += fmt::format("{}'{}'", arms.commands.empty() ? "" : "|", name);
    Collect(*sub, name, arms);
  }
  words.pop_back();
  arms.words += fmt::format("    '{}') words='{}'{} ;;\n", command, words, files);
}

}  // namespace

std::string BashCompletion(const CLI::App& app) {
  Arms arms;
  Collect(app, app.get_name(), arms);
  return fmt::format(R"(# Completion of {0} for bash: source <({0} completion bash)
_{0}() {{
  local command={0} words='' files='' word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$command $word" in
    {1}) command+=" $word" ;;
    esac
  done
  COMPREPLY=()
  case "$command ${{COMP_WORDS[COMP_CWORD-1]}}" in
    {2}) return ;;
  esac
  case $command in
{3}  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$2")
  if [[ $files && $2 != -* ]]; then
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$2")
  fi
}}
complete -F _{0} {0}
)",
                     app.get_name(), arms.commands, arms.values, arms.words);
}

}  // namespace ratelimiter
