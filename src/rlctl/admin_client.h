#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "arguments.h"

namespace ratelimiter {

using Json = nlohmann::ordered_json;

// How to reach the daemon's admin server, and what to send it.
struct AdminArguments {
  std::string port;    // Empty or "off": unknown.
  std::string target;  // Empty: this machine and `port`.
  TlsArguments tls;
  std::string token_file;  // Empty: no token is sent.
  AnswerArguments answer;
  RequestArguments request;
};

// A server's address.
struct AdminAddress {
  std::string text;
  std::string host{};
  std::uint16_t port = 0;
};

// nullopt: `text` is not host:port.
std::optional<AdminAddress> ParseAdminAddress(const std::string& text);

// Sends a GET, or a POST if there is a body, and returns the JSON object of the response.
// nullopt after printing an error: no server, no response in time, or an error response.
std::optional<Json> AskAdmin(const AdminArguments& arguments, const std::string& path,
                             const std::optional<Json>& body);

// A member of an object as text; empty if there is none or it is null. The server may send
// anything.
std::string Text(const Json& object, std::string_view key);

bool IsTrue(const Json& object, std::string_view key);

// A member of an object that is an array or an object; empty if it is neither.
const Json& Members(const Json& object, std::string_view key);

}  // namespace ratelimiter
