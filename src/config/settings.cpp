#include "ratelimiter/config/settings.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <sstream>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "ratelimiter/base/text.h"
#include "settings_checks.h"
#include "settings_table.h"

namespace ratelimiter {
namespace {

constexpr const char* kDescription =
    "Rate limiter: decides by token buckets whether a user's request is allowed.\n"
    "Serves gRPC (limiter.RateLimiter) on PORT and Prometheus metrics on METRICS_PORT.";

constexpr const char* kFooter =
    "A flag overrides the environment variable, which overrides the default. Durations are a\n"
    "whole number with a unit: us, ms, s, m, h, d. An empty environment variable counts as\n"
    "unset. Line breaks at the end of a value are ignored. The start line is logged at every\n"
    "LOG_LEVEL except off; the reason of a failed start is always printed. Exit codes: 0 ended\n"
    "as asked, 1 cannot run, 2 unknown flag or argument, 78 a value that is not accepted.";

// REDIS_URL -> --redis-url
std::string FlagName(std::string_view name) {
  std::string flag = "--";
  for (const char c : name) {
    flag.push_back(c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  }
  return flag;
}

// The settings of the single limit, which a limits file replaces.
bool IsReplacedByLimitsFile(std::string_view name) {
  return name == "CAPACITY" || name == "REFILL_TOKENS" || name == "REFILL_INTERVAL";
}

std::string ShownIfAccepted(const Setting& setting, const std::string& value) {
  switch (setting.secrecy) {
    case Secrecy::kUrl:
      return WithoutPassword(value);
    case Secrecy::kSecret:
      return value.empty() ? "" : "…";
    case Secrecy::kNone:
      break;
  }
  return value;
}

std::string ShownIfRejected(const Setting& setting, std::string_view value) {
  switch (setting.secrecy) {
    case Secrecy::kUrl:
      return WithoutSecrets(value);
    case Secrecy::kSecret:
      return "…";
    case Secrecy::kNone:
      break;
  }
  return Printable(value);
}

// Why a value is rejected where its text does not show it; ends in "; " or is empty.
std::string Reason(const Setting& setting, std::string_view value) {
  if (setting.secrecy == Secrecy::kUrl && !WhyNotSupported(value).empty()) {
    return fmt::format("{}; ", WhyNotSupported(value));
  }
  const std::string invisible = DescribeInvisible(value);
  return invisible.empty() ? "" : fmt::format("it {}; ", invisible);
}

std::string Rejection(const Setting& setting, std::string_view value) {
  return fmt::format("{}: \"{}\" is not accepted; {}accepted: {} (environment {}, flag {})\n",
                     setting.name, ShownIfRejected(setting, value), Reason(setting, value),
                     setting.accepted, setting.name, FlagName(setting.name));
}

// Shows the name of a flag at most: a value may be a misplaced secret.
std::string UnknownArgument(std::string_view argument) {
  if (!argument.starts_with('-')) {
    return "unexpected positional argument; accepted: flags, which --help lists\n";
  }
  const std::string_view name = argument.substr(0, argument.find('='));
  return fmt::format("unknown flag {}; accepted: the flags that --help lists\n", Printable(name));
}

// The arguments in reverse, as CLI11 expects them. "--port=" becomes "--port" and an empty
// argument: CLI11 would report a missing value.
std::vector<std::string> ReversedArguments(int argc, const char* const* argv,
                                           const std::vector<Setting>& table) {
  std::vector<std::string> arguments;
  for (const char* const* argument = argv + 1; argument < argv + argc; ++argument) {
    const bool empty_value = std::ranges::any_of(
        table, [&](const Setting& setting) { return FlagName(setting.name) + "=" == *argument; });
    arguments.emplace_back(*argument);
    if (empty_value) {
      arguments.back().pop_back();
      arguments.emplace_back();
    }
  }
  std::ranges::reverse(arguments);
  return arguments;
}

// A setting's value, as text, and where it came from.
struct Given {
  std::string value;
  ShownSetting::Source source = ShownSetting::Source::kDefault;
};

ShownSetting::Source SourceOf(const CLI::Option& option, const CLI::App& app) {
  if (option.count() == 0) return ShownSetting::Source::kDefault;
  const std::vector<CLI::Option*>& flags = app.parse_order();
  return std::ranges::find(flags, &option) == flags.end() ? ShownSetting::Source::kEnvironment
                                                          : ShownSetting::Source::kFlag;
}

SettingsResult Ended(std::string message, int exit_code) {
  return {.settings = std::nullopt, .message = std::move(message), .exit_code = exit_code};
}

// Reads flags and the environment into `given`, by the rows of `table`; or returns the message
// and exit code to end with.
std::optional<SettingsResult> ReadArguments(int argc, const char* const* argv,
                                            const std::vector<Setting>& table,
                                            std::vector<Given>& given) {
  CLI::App app(kDescription, "ratelimiterd");
  app.set_version_flag("--version", "ratelimiterd " RATELIMITER_VERSION);
  app.footer(kFooter);
  app.allow_extras();
  given.resize(table.size());
  std::vector<const CLI::Option*> options;
  for (std::size_t i = 0; i < table.size(); ++i) {
    const Setting& setting = table[i];
    given[i].value = setting.default_value;
    options.push_back(
        app.add_option(FlagName(setting.name), given[i].value,
                       fmt::format("{}. Accepted: {}", setting.meaning, setting.accepted))
            ->envname(std::string(setting.name))
            ->type_name("")
            ->default_str(std::string(setting.default_value)));
  }
  try {
    app.parse(ReversedArguments(argc, argv, table));
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    const int code = app.exit(error, out, out);
    return Ended(out.str(), code == 0 ? kExitOk : kExitUsage);
  }
  std::string unknown;
  for (const std::string& argument : app.remaining()) unknown += UnknownArgument(argument);
  if (!unknown.empty()) return Ended(std::move(unknown), kExitUsage);

  for (std::size_t i = 0; i < table.size(); ++i) {
    given[i].source = SourceOf(*options[i], app);
    // Files, Kubernetes Secrets among them, often end with a line break that nobody means.
    given[i].value.resize(WithoutLineBreaks(given[i].value).size());
    if (given[i].value.empty() && given[i].source == ShownSetting::Source::kEnvironment) {
      given[i] = {.value = std::string(table[i].default_value)};
    }
  }
  return std::nullopt;
}

// Converts the values into `settings`. Returns all rejections, one a line.
std::string Convert(const std::vector<Setting>& table, const std::vector<Given>& given,
                    Settings& settings) {
  std::string rejections;
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (!table[i].read(given[i].value, settings)) {
      rejections += Rejection(table[i], given[i].value);
    }
  }
  const BucketSpec& spec = settings.spec;
  for (std::size_t i = 0; i < table.size() && !settings.limits_file.empty(); ++i) {
    if (!IsReplacedByLimitsFile(table[i].name)) continue;
    if (given[i].source == ShownSetting::Source::kDefault) continue;
    rejections += fmt::format(
        "{}: is set, and so is LIMITS_FILE, which replaces it; accepted: one of the two\n",
        table[i].name);
  }
  if (rejections.empty()) rejections = CheckSettings(settings);
  // Each is zero if it was rejected by itself.
  if (spec.capacity > 0 && spec.refill_tokens > 0 && spec.refill_interval.count() > 0) {
    rejections += CheckSpec(spec);
  }
  return rejections;
}

}  // namespace

SettingsResult ReadSettings(int argc, const char* const* argv) {
  const std::vector<Setting> table = SettingsTable();
  std::vector<Given> given;
  if (auto ended = ReadArguments(argc, argv, table, given); ended.has_value()) {
    return *std::move(ended);
  }
  Settings settings;
  if (std::string rejections = Convert(table, given, settings); !rejections.empty()) {
    return Ended(std::move(rejections), kExitConfig);
  }
  for (std::size_t i = 0; i < table.size(); ++i) {
    settings.shown.push_back({.name = table[i].name,
                              .value = ShownIfAccepted(table[i], given[i].value),
                              .default_value = table[i].default_value,
                              .meaning = table[i].meaning,
                              .source = given[i].source});
  }
  return {.settings = std::move(settings), .message = {}, .exit_code = kExitOk};
}

}  // namespace ratelimiter
