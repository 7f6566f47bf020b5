#include "introduction.h"

#include <charconv>
#include <cstddef>

#include <fmt/format.h>

#include "error_policy.h"
#include "ratelimiter/base/text.h"
#include "ratelimiter/redis/script.h"

namespace ratelimiter {
namespace {

std::string_view UserOf(const RedisServer& server) {
  return server.user.empty() ? "default" : std::string_view(server.user);
}

bool IsUnknownCommand(const RedisReply& reply) {
  return reply.type() == RedisReply::Type::kError &&
         reply.text().find("unknown command") != std::string_view::npos;
}

// The ACL rule that allows a command: "+script|load".
std::string RightTo(std::string_view command) {
  std::string right = "+";
  for (const char letter : command) {
    right += letter == ' ' ? '|' : static_cast<char>(letter | 0x20);  // To lower case.
  }
  return right;
}

void Append(std::string& list, std::string_view name) {
  if (!list.empty()) list += ' ';
  list += name;
}

}  // namespace

std::string_view FieldOf(const RedisReply& reply, std::string_view field) {
  for (std::size_t i = 1; i + 1 < reply.size(); i += 2) {
    if (reply.type(i) == RedisReply::Type::kString &&
        reply.type(i + 1) == RedisReply::Type::kString && reply.text(i) == field) {
      return reply.text(i + 1);
    }
  }
  return {};
}

// Redis 7.0 brought scripts that begin with #!lua, which a demoted master does not run. Valkey
// has had them from its start.
absl::Status CheckVersion(const RedisReply& hello) {
  const std::string_view server = FieldOf(hello, "server");
  const std::string_view version = FieldOf(hello, "version");
  int major = 0;
  std::from_chars(version.data(), version.data() + version.size(), major);
  if (server == "valkey" || (server == "redis" && major >= 7)) return absl::OkStatus();
  return absl::UnavailableError(
      fmt::format("the server is {} {}; needed: Redis 7.0 or later, or Valkey",
                  Printable(server, 32), Printable(version, 32)));
}

// HELLO tells the role without any right of its own.
absl::Status CheckMaster(const RedisReply& hello) {
  const std::string_view role = FieldOf(hello, "role");
  if (role == "master") return absl::OkStatus();
  return absl::UnavailableError(fmt::format(
      "the server is no master but \"{}\": a failover is under way, or the sentinels are wrong",
      Printable(role, 32)));
}

bool IsForbidden(const RedisReply& reply) {
  return reply.IsError("NOPERM") || IsUnknownCommand(reply);
}

void Missing::AddForbidden(std::string_view command, const RedisReply& reply) {
  if (IsUnknownCommand(reply)) {
    Append(commands_, command);
  } else {
    Append(rights_, RightTo(command));
  }
}

void Missing::Add(std::string_view name) {
  Append(name.starts_with('+') || name.starts_with('~') ? rights_ : commands_, name);
}

absl::Status Missing::Error(const RedisServer& server) const {
  if (rights_.empty() && commands_.empty()) return absl::OkStatus();
  std::string error;
  if (!rights_.empty()) {
    error = fmt::format("Redis user \"{}\" of REDIS_URL lacks rights; grant with ACL SETUSER: {}",
                        Printable(UserOf(server)), Printable(rights_));
  }
  if (!commands_.empty()) {
    error += fmt::format("{}Redis lacks commands, disabled or renamed by rename-command: {}",
                         error.empty() ? "" : "; ", Printable(commands_));
  }
  return absl::UnavailableError(error);
}

absl::Status NotIntroduced(const absl::Status& error, const RedisServer& server) {
  // Sentinels, the masters that they name, and a Cluster's nodes have no such URL.
  const bool may_have_tls = server.socket.empty() && server.master.empty() && !server.cluster_node;
  if (!absl::IsUnavailable(error) || server.tls != nullptr || !may_have_tls) return error;
  return absl::UnavailableError(
      fmt::format("{}; if the server speaks TLS, REDIS_URL must begin with rediss://",
                  std::string(error.message())));
}

absl::Status IntroductionRefused(const RedisReply& reply, std::string_view command,
                                 const RedisServer& server) {
  const std::string_view text = reply.text();
  if (command == "HELLO" && IsUnknownCommand(reply)) {
    return absl::UnavailableError(
        "the server does not know HELLO; needed: Redis 7.0 or later, with HELLO not renamed");
  }
  if (IsForbidden(reply)) {
    Missing missing;
    missing.AddForbidden(command, reply);
    return missing.Error(server);
  }
  const std::string_view advice = ErrorPolicyFor(text).advice;
  return absl::UnavailableError(fmt::format("Redis refused {}: {}{}{}", command, Printable(text),
                                            advice.empty() ? "" : "; ", advice));
}

std::string FormatServerCheck(const RedisServer& server, std::string_view run,
                              std::string_view script, std::string_view password) {
  const bool migrates = server.cluster_node;
  return FormatCommand({run, script, "0", server.key_prefix, migrates ? "cluster" : "",
                        migrates && !password.empty() ? "auth" : ""});
}

std::string Introduction(const RedisServer& server, std::string_view password) {
  // A user may need no password (ACL nopass).
  const bool authenticates = !password.empty() || !server.user.empty();
  std::string commands = !authenticates ? FormatCommand({"HELLO", "2", "SETNAME", "ratelimiterd"})
                                        : FormatCommand({"HELLO", "2", "AUTH", UserOf(server),
                                                         password, "SETNAME", "ratelimiterd"});
  if (server.database != 0) {
    commands += FormatCommand({"SELECT", std::to_string(server.database)});
  }
  if (!server.key_prefix.empty()) {
    const Script check = ServerCheckScript();
    commands += FormatCommand({"SCRIPT", "LOAD", check.source});
    commands += FormatServerCheck(server, "EVALSHA", check.sha1, password);
  }
  return commands;
}

absl::Status CheckMissing(const RedisReply& found, const RedisServer& server) {
  if (found.type() != RedisReply::Type::kArray || found.size() < 2) {
    return absl::UnavailableError("unexpected reply to the permission check");
  }
  Missing missing;
  for (std::size_t i = 2; i < found.size(); ++i) missing.Add(found.text(i));
  return missing.Error(server);
}

}  // namespace ratelimiter
