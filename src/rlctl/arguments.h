#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include <CLI/CLI.hpp>

namespace ratelimiter {

// What the command line asks for. Returns rlctl's exit code; errors are told on
// stderr by then.
using Run = std::function<int()>;

// Exit codes beside those of the daemon (config/settings.h).
inline constexpr int kExitRefused = 3;

// The request that a command is about.
struct RequestArguments {
  std::string user;
  std::string path;
  std::map<std::string, std::string> attributes;
  std::optional<std::uint32_t> cost;
  std::string limit;  // Empty: none is named.
};

// How long an answer is waited for, and how it is shown.
struct AnswerArguments {
  std::chrono::microseconds timeout = std::chrono::seconds(2);
  bool json = false;
};

// Whether a server is spoken to over TLS, and how it is known.
struct TlsArguments {
  bool asked = false;
  std::string ca_file;      // Empty: the CAs of the system.
  std::string server_name;  // Empty: the host that is called.

  bool on() const { return asked || !ca_file.empty() || !server_name.empty(); }
};

// Each adds what its command takes; `arguments` must outlive the parsing. What
// is not accepted is a CLI::ParseError that says what is.

// USER, PATH and --attribute.
void AddRequest(CLI::App& command, RequestArguments& arguments);
void AddCost(CLI::App& command, RequestArguments& arguments);
void AddLimit(CLI::App& command, RequestArguments& arguments);
// --timeout and --json.
void AddAnswer(CLI::App& command, AnswerArguments& arguments);
void AddJson(CLI::App& command, bool& json);
// --tls, whose variable has a name of its own, --tls-ca and --tls-server-name, either of
// which asks for TLS, too; their variables begin with `prefix`, or are none if it is empty.
void AddTls(CLI::App& command, TlsArguments& arguments, const std::string& variable,
            const std::string& prefix);

// What is said of a value that is not accepted: a CLI::ParseError.
[[noreturn]] void Reject(std::string_view name, std::string_view value, std::string_view accepted);

// `text` as a number from `least` to `most`, in decimal digits; else Rejects it.
std::uint32_t ReadNumber(std::string_view name, std::string_view text, std::uint32_t least,
                         std::uint32_t most);

// `text` as a duration from `least` to `most`; else Rejects it.
std::chrono::microseconds ReadDuration(std::string_view name, std::string_view text,
                                       std::chrono::microseconds least,
                                       std::chrono::microseconds most);

// An option that is a file's path, and, unless it is empty, its variable.
void AddPath(CLI::App& command, const std::string& name, const std::string& variable,
             const std::string& meaning, std::string& path);

// For options that are text: neither protobuf nor JSON can carry anything else.
const CLI::Validator& Utf8();

}  // namespace ratelimiter
