#include "arguments.h"

#include <charconv>
#include <cstddef>
#include <limits>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "ratelimiter/base/duration.h"
#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::microseconds kMinTimeout = 1ms;
constexpr std::chrono::microseconds kMaxTimeout = 1h;

}  // namespace

const CLI::Validator& Utf8() {
  static const CLI::Validator validator(
      [](const std::string& text) {
        const bool valid = ValidUtf8Prefix(text, text.size()).size() == text.size();
        return valid ? std::string() : "it is not valid UTF-8";
      },
      "");
  return validator;
}

void AddRequest(CLI::App& command, RequestArguments& arguments) {
  command
      .add_option("USER", arguments.user, "Whose request it is (behind --, if it begins with -)")
      ->required()
      ->type_name("")
      ->check(Utf8());
  command.add_option("PATH", arguments.path, "What is asked for, such as /login")
      ->type_name("")
      ->check(Utf8());
  command
      .add_option_function<std::vector<std::string>>(
          "--attribute",
          [&arguments](const std::vector<std::string>& pairs) {
            for (const std::string& pair : pairs) {
              const std::size_t equals = pair.find('=');
              if (equals == std::string::npos || equals == 0) {
                Reject("--attribute", pair, "KEY=VALUE, such as plan=free");
              }
              if (!arguments.attributes.emplace(pair.substr(0, equals), pair.substr(equals + 1))
                       .second) {
                Reject("--attribute", pair, "each key once");
              }
            }
          },
          "A property of the request; may be given several times")
      ->type_name("KEY=VALUE")
      // Else it would take the user and the path that stand behind it.
      ->allow_extra_args(false)
      ->check(Utf8());
}

void AddCost(CLI::App& command, RequestArguments& arguments) {
  command
      .add_option_function<std::string>(
          "--cost",
          [&arguments](const std::string& text) {
            constexpr std::uint32_t kMost = std::numeric_limits<std::uint32_t>::max();
            arguments.cost = ReadNumber("--cost", text, 0, kMost);
          },
          "Tokens that the request costs; 0 is a look")
      ->type_name("N")
      ->default_str("1");
}

void AddLimit(CLI::App& command, RequestArguments& arguments) {
  command.add_option("--limit", arguments.limit, "This limit alone")
      ->type_name("NAME")
      ->check(Utf8());
}

void AddAnswer(CLI::App& command, AnswerArguments& arguments) {
  command
      .add_option_function<std::string>(
          "--timeout",
          [&arguments](const std::string& text) {
            arguments.timeout = ReadDuration("--timeout", text, kMinTimeout, kMaxTimeout);
          },
          "How long to wait for the answer")
      ->type_name("DURATION")
      ->default_str(FormatDuration(arguments.timeout));
  AddJson(command, arguments.json);
}

void AddJson(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "Print JSON, for programs");
}

void AddTls(CLI::App& command, TlsArguments& arguments, const std::string& variable,
            const std::string& prefix) {
  const auto with_prefix = [&](const char* name) { return prefix.empty() ? "" : prefix + name; };
  command.add_flag("--tls", arguments.asked, "Speak TLS")->envname(variable);
  AddPath(command, "--tls-ca", with_prefix("_CA"),
          "The CAs that say who the server is, in PEM, instead of the system's; asks for TLS",
          arguments.ca_file);
  command
      .add_option("--tls-server-name", arguments.server_name,
                  "The name that its certificate must have, instead of the host that is called; "
                  "asks for TLS")
      ->envname(with_prefix("_SERVER_NAME"))
      ->type_name("NAME");
}

void AddPath(CLI::App& command, const std::string& name, const std::string& variable,
             const std::string& meaning, std::string& path) {
  command.add_option(name, path, meaning)->envname(variable)->type_name("FILE");
}

void Reject(std::string_view name, std::string_view value, std::string_view accepted) {
  throw CLI::ValidationError(
      fmt::format("{}: \"{}\" is not accepted; accepted: {}", name, value, accepted));
}

std::uint32_t ReadNumber(std::string_view name, std::string_view text, std::uint32_t least,
                         std::uint32_t most) {
  std::uint32_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end || number < least || number > most) {
    Reject(name, text, fmt::format("{} to {}", least, most));
  }
  return number;
}

std::chrono::microseconds ReadDuration(std::string_view name, std::string_view text,
                                       std::chrono::microseconds least,
                                       std::chrono::microseconds most) {
  const std::optional<std::chrono::microseconds> duration = ParseDuration(text);
  if (!duration.has_value() || *duration < least || *duration > most) {
    Reject(name, text,
           fmt::format("{} to {}, a whole number with a unit (us, ms, s, m, h)",
                       FormatDuration(least), FormatDuration(most)));
  }
  return *duration;
}

}  // namespace ratelimiter
