#include "admin_commands.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <fmt/format.h>

#include "admin_client.h"
#include "output.h"
#include "ratelimiter/config/settings.h"

namespace ratelimiter {
namespace {

Json ToJson(const RequestArguments& request) {
  Json json = {{"user_id", request.user}};
  if (!request.path.empty()) json["path"] = request.path;
  if (!request.attributes.empty()) json["attributes"] = request.attributes;
  if (request.cost.has_value()) json["cost"] = *request.cost;
  if (!request.limit.empty()) json["limit"] = request.limit;
  return json;
}

std::string DescribeName(const Json& limit) {
  return Text(limit, "name") + (IsTrue(limit, "shadow") ? " (shadow)" : "");
}

std::string DescribeRefill(const Json& limit) {
  const Json& refill = Members(limit, "refill");
  if (refill.empty()) return {};
  return fmt::format("{} per {}", Text(refill, "tokens"), Text(refill, "interval"));
}

Style StyleOf(const Json& limit) {
  return IsTrue(limit, "shadow") ? Style::kShadow : Style::kPlain;
}

void PrintReloads(const Json& answer) {
  const Json& reloads = Members(answer, "reloads");
  PrintLine(fmt::format("Reloads: {} succeeded, {} failed", Text(reloads, "succeeded"),
                        Text(reloads, "failed")));
  for (const Json& error : Members(reloads, "errors")) {
    if (error.is_string()) PrintLine(error.get<std::string>(), Style::kRefused);
  }
}

void PrintExplanations(const Json& answer) {
  Table table({"LIMIT", "APPLIES", "COST", "CAPACITY", "REFILL", "KEY", "WHY"});
  for (const Json& limit : Members(answer, "limits")) {
    table.Add({DescribeName(limit), IsTrue(limit, "applies") ? "yes" : "no", Text(limit, "cost"),
               IsTrue(limit, "unlimited") ? "unlimited" : Text(limit, "capacity"),
               DescribeRefill(limit), Text(limit, "key"), Text(limit, "why")},
              StyleOf(limit));
  }
  table.Print();
}

void PrintBuckets(const Json& answer) {
  const Json& limits = Members(answer, "limits");
  if (limits.empty()) {
    PrintLine("No bucket was changed: no limit with a bucket of this user applies to the request.");
    return;
  }
  Table table({"LIMIT", "LEFT", "CAPACITY"});
  for (const Json& limit : limits) {
    table.Add({Text(limit, "name"), Text(limit, "remaining"), Text(limit, "limit")});
  }
  table.Print();
}

void PrintLimits(const Json& answer) {
  const Json& limits = Members(answer, "limits");
  const std::string file = Text(answer, "file");
  PrintLine(file.empty()
                ? "The limit of the settings"
                : fmt::format("{} of {}, loaded {}, hashed by {}", CountedLimits(limits.size()),
                              file, Text(answer, "loaded_at"), Text(answer, "hash_by")));
  if (!file.empty()) PrintReloads(answer);
  PrintLine("");
  Table table({"LIMIT", "PATH", "ATTRIBUTES", "BY", "CAPACITY", "REFILL", "COST", "OVERRIDES"});
  for (const Json& limit : limits) {
    std::string attributes;
    for (const auto& [key, value] : Members(limit, "attributes").items()) {
      attributes += fmt::format("{}{}={}", attributes.empty() ? "" : ", ", key,
                                value.is_string() ? value.get<std::string>() : value.dump());
    }
    std::string by;
    for (const Json& part : Members(limit, "by")) {
      if (part.is_string()) by += (by.empty() ? "" : ", ") + part.get<std::string>();
    }
    const std::size_t overrides = Members(limit, "overrides").size();
    table.Add({DescribeName(limit), Text(limit, "path"), attributes, by.empty() ? "all" : by,
               Text(limit, "capacity"), DescribeRefill(limit), Text(limit, "cost"),
               overrides == 0 ? "" : std::to_string(overrides)},
              StyleOf(limit));
  }
  table.Print();
}

// A command: a path of the admin API, the body to POST (none: GET), and how to print the
// response.
struct AdminCommand {
  const char* name;
  const char* meaning;
  const char* path;
  std::optional<Json> (*body)(const RequestArguments&);
  void (*print)(const Json& answer);
};

CLI::App& AddCommand(CLI::App& app, const AdminCommand& command,
                     const std::shared_ptr<AdminArguments>& arguments, Run& run) {
  CLI::App& added = *app.add_subcommand(command.name, command.meaning);
  added.callback([=, &run] {
    run = [=] {
      const std::optional<Json> answer =
          AskAdmin(*arguments, command.path, command.body(arguments->request));
      if (!answer.has_value()) return kExitRuntime;
      if (arguments->answer.json) {
        PrintJson(*answer);
      } else {
        command.print(*answer);
      }
      return kExitOk;
    };
  });
  return added;
}

void AddServer(CLI::App& command, AdminArguments& arguments) {
  command
      .add_option_function<std::string>(
          "--admin-port",
          [&arguments](const std::string& port) {
            constexpr std::uint32_t kMaxPort = 65535;
            if (port != "off") ReadNumber("--admin-port, ADMIN_PORT", port, 0, kMaxPort);
            arguments.port = port;
          },
          "The admin server's port on this machine")
      ->envname("ADMIN_PORT")
      ->type_name("N");
  command
      .add_option_function<std::string>(
          "--admin-target",
          [&arguments](const std::string& target) {
            if (!ParseAdminAddress(target).has_value()) {
              Reject("--admin-target", target, "host:port, an IPv6 address in brackets");
            }
            arguments.target = target;
          },
          "Admin server's address, instead of this machine and ADMIN_PORT")
      ->type_name("HOST:PORT");
  AddTls(command, arguments.tls, "ADMIN_TLS", "");
  AddPath(command, "--token-file", "ADMIN_TOKEN_FILE",
          "File whose first line is the admin server's token", arguments.token_file);
  AddAnswer(command, arguments.answer);
}

}  // namespace

void AddAdminCommands(CLI::App& app, CLI::App& limits, Run& run) {
  const auto nothing = [](const RequestArguments&) { return std::optional<Json>(); };
  const auto object = [](const RequestArguments&) { return std::optional(Json::object()); };
  const auto request = [](const RequestArguments& arguments) {
    return std::optional(ToJson(arguments));
  };
  const auto arguments = std::make_shared<AdminArguments>();

  CLI::App& explain =
      AddCommand(app,
                 {"explain", "Show which limits apply to a request, and why; takes no tokens",
                  "/api/v1/explain", request, PrintExplanations},
                 arguments, run);
  AddRequest(explain, arguments->request);
  AddCost(explain, arguments->request);
  AddServer(explain, *arguments);

  CLI::App& reset =
      AddCommand(app, {"reset", "Refill a user's buckets", "/api/v1/reset", request, PrintBuckets},
                 arguments, run);
  AddRequest(reset, arguments->request);
  AddLimit(reset, arguments->request);
  AddServer(reset, *arguments);

  CLI::App& refund = AddCommand(
      app,
      {"refund", "Return the tokens that a request took", "/api/v1/refund", request, PrintBuckets},
      arguments, run);
  AddRequest(refund, arguments->request);
  AddCost(refund, arguments->request);
  AddLimit(refund, arguments->request);
  AddServer(refund, *arguments);

  CLI::App& reload = AddCommand(
      app, {"reload", "Reload the daemon's limits file", "/api/v1/reload", object, PrintReloads},
      arguments, run);
  AddServer(reload, *arguments);

  CLI::App& list = AddCommand(
      limits, {"list", "Show the limits in force", "/api/v1/limits", nothing, PrintLimits},
      arguments, run);
  AddServer(list, *arguments);
}

}  // namespace ratelimiter
