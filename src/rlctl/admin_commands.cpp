#include "admin_commands.h"

#include <httplib.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "output.h"
#include "ratelimiter/base/duration.h"
#include "ratelimiter/base/secret_file.h"
#include "ratelimiter/config/settings.h"

namespace ratelimiter {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kOk = 200;

struct AdminArguments {
  std::string port;    // Empty or "off": none is known.
  std::string target;  // Empty: this machine and `port`.
  TlsArguments tls;
  std::string token_file;  // Empty: no token is shown.
  AnswerArguments answer;
  RequestArguments request;
};

// Where the admin server is.
struct Address {
  std::string text;
  std::string host{};
  std::uint16_t port = 0;
};

// nullopt: `text` is not host:port.
std::optional<Address> ParseAddress(const std::string& text) {
  Address address{.text = text};
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return std::nullopt;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data() + colon + 1, end, address.port);
  if (error != std::errc() || rest != end) return std::nullopt;
  address.host = text.substr(0, colon);
  if (address.host.starts_with('[') && address.host.ends_with(']')) {
    address.host = address.host.substr(1, address.host.size() - 2);
  }
  return address;
}

// Nothing: it is not known, and that was told.
std::optional<Address> FindServer(const AdminArguments& arguments) {
  if (!arguments.target.empty()) return ParseAddress(arguments.target);
  if (!arguments.port.empty() && arguments.port != "off") {
    return ParseAddress("localhost:" + arguments.port);
  }
  TellError(
      "rlctl: the admin server's port is not known: start ratelimiterd with ADMIN_PORT, which is "
      "off by default, and give the same ADMIN_PORT, --admin-port or --admin-target here");
  return std::nullopt;
}

// An object's member as text; empty: there is none, or it is null. What a server
// sends may be anything.
std::string Text(const Json& object, std::string_view key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return {};
  return found->is_string() ? found->get<std::string>() : found->dump();
}

bool IsTrue(const Json& object, std::string_view key) { return Text(object, key) == "true"; }

// An object's member that is an array or an object; empty if it is neither.
const Json& Members(const Json& object, std::string_view key) {
  static const Json none = Json::array();
  const auto found = object.find(key);
  return found != object.end() && found->is_structured() ? *found : none;
}

void TellFailure(const Address& server, const httplib::Response& response) {
  const Json body = Json::parse(response.body, nullptr, false);
  const Json& error = Members(body, "error");
  if (error.empty()) {
    TellError(fmt::format(
        "rlctl: {} answers {}, without an error that rlctl knows; is it the admin server of "
        "ratelimiterd (--admin-target, ADMIN_PORT)?",
        server.text, response.status));
    return;
  }
  TellError(fmt::format("rlctl: {} answers {}: {}", server.text, Text(error, "code"),
                        Text(error, "message")));
  for (const Json& reload_error : Members(Members(body, "reloads"), "errors")) {
    if (reload_error.is_string()) TellError(reload_error.get<std::string>());
  }
}

// A client whose connections are over TLS if they are asked to be. `verified` becomes what
// is wrong with the server's certificate, X509_V_OK if nothing is. nullptr: the file of CAs
// cannot be used, and that was told.
std::unique_ptr<httplib::ClientImpl> MakeClient(const Address& server, const TlsArguments& tls,
                                                int& verified) {
  if (!tls.on()) return std::make_unique<httplib::ClientImpl>(server.host, server.port);
  auto client = std::make_unique<httplib::SSLClient>(server.host, server.port);
  // It checks a certificate against the host that it calls alone; OpenSSL against any name.
  client->enable_server_certificate_verification(false);
  SSL_CTX* const context = client->ssl_context();
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_cert_verify_callback(
      context,
      [](X509_STORE_CTX* chain, void* result) {
        const int good = X509_verify_cert(chain);
        *static_cast<int*>(result) = X509_STORE_CTX_get_error(chain);
        return good;
      },
      &verified);
  const std::string& name = tls.server_name.empty() ? server.host : tls.server_name;
  X509_VERIFY_PARAM* const checks = SSL_CTX_get0_param(context);
  if (X509_VERIFY_PARAM_set1_ip_asc(checks, name.c_str()) != 1) {
    X509_VERIFY_PARAM_set1_host(checks, name.c_str(), name.size());
  }
  const int loaded = tls.ca_file.empty() ? SSL_CTX_set_default_verify_paths(context)
                                         : SSL_CTX_load_verify_file(context, tls.ca_file.c_str());
  if (loaded == 1) return client;
  TellError(fmt::format("rlctl: --tls-ca: {} is not a file of certificates in PEM that can be read",
                        tls.ca_file));
  return nullptr;
}

// What is shown to the server beside the request. Nothing: the token cannot be read, and
// that was told.
std::optional<httplib::Headers> HeadersFor(const Address& server, const std::string& token_file) {
  // By itself httplib leaves the brackets of an IPv6 address out.
  httplib::Headers headers = {{"Host", server.text}};
  if (token_file.empty()) return headers;
  const absl::StatusOr<std::string> token = ReadSecretFile(token_file);
  if (!token.ok()) {
    TellError(fmt::format("rlctl: --token-file, ADMIN_TOKEN_FILE: {}",
                          std::string(token.status().message())));
    return std::nullopt;
  }
  headers.emplace("Authorization", "Bearer " + *token);
  return headers;
}

// Why a request that was not answered was not.
std::string WhyNoAnswer(httplib::Error error, int verified, std::chrono::microseconds timeout) {
  if (verified != X509_V_OK) {
    return fmt::format("its certificate is not accepted: {} (--tls-ca, --tls-server-name)",
                       X509_verify_cert_error_string(verified));
  }
  if (error == httplib::Error::Connection || error == httplib::Error::ConnectionTimeout) {
    return "no connection";
  }
  if (error == httplib::Error::SSLConnection) return "it does not speak TLS (--tls)";
  return fmt::format("no whole answer came within {} (--timeout)", FormatDuration(timeout));
}

// Asks by GET, or with a body by POST. Nothing: it failed, and why was told.
std::optional<Json> Ask(const AdminArguments& arguments, const std::string& path,
                        const std::optional<Json>& body) {
  const std::optional<Address> server = FindServer(arguments);
  if (!server.has_value()) return std::nullopt;
  int verified = X509_V_OK;
  const auto client = MakeClient(*server, arguments.tls, verified);
  const auto headers = HeadersFor(*server, arguments.token_file);
  if (client == nullptr || !headers.has_value()) return std::nullopt;
  client->set_connection_timeout(arguments.answer.timeout);
  client->set_read_timeout(arguments.answer.timeout);
  client->set_write_timeout(arguments.answer.timeout);
  // Those hold for each read: a server that drips could hold it up for ever.
  const std::jthread alarm([&](const std::stop_token& answered) {
    std::mutex mutex;
    std::condition_variable_any condition;
    std::unique_lock lock(mutex);
    condition.wait_for(lock, answered, arguments.answer.timeout, [] { return false; });
    if (!answered.stop_requested()) client->stop();
  });
  const httplib::Result result =
      body.has_value() ? client->Post(path, *headers, body->dump(), "application/json")
                       : client->Get(path, *headers);
  if (!result) {
    const std::string why = WhyNoAnswer(result.error(), verified, arguments.answer.timeout);
    TellError(
        fmt::format("rlctl: {} does not answer: {}; is the admin server of ratelimiterd there "
                    "(--admin-target, ADMIN_PORT), and is it {} TLS (--tls)?",
                    server->text, why, arguments.tls.on() ? "over" : "without"));
    return std::nullopt;
  }
  if (result->status == kOk) {
    Json answer = Json::parse(result->body, nullptr, false);
    if (answer.is_object()) return answer;
  }
  TellFailure(*server, *result);
  return std::nullopt;
}

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
    PrintLine("No bucket was changed: none is this request's, or none is its user's own.");
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

// A command is a path of the API, whether it is asked for by POST and with what,
// and how its answer is shown to people.
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
          Ask(*arguments, command.path, command.body(arguments->request));
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
            if (!ParseAddress(target).has_value()) {
              Reject("--admin-target", target, "host:port, an IPv6 address in brackets");
            }
            arguments.target = target;
          },
          "Instead of this machine and ADMIN_PORT")
      ->type_name("HOST:PORT");
  AddTls(command, arguments.tls, "ADMIN_TLS", "");
  AddPath(command, "--token-file", "ADMIN_TOKEN_FILE",
          "The file whose first line is the token that the admin server asks for",
          arguments.token_file);
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
                 {"explain", "Show which limits apply to a request, and why; takes nothing",
                  "/api/v1/explain", request, PrintExplanations},
                 arguments, run);
  AddRequest(explain, arguments->request);
  AddCost(explain, arguments->request);
  AddServer(explain, *arguments);

  CLI::App& reset = AddCommand(
      app, {"reset", "Make a user's buckets full again", "/api/v1/reset", request, PrintBuckets},
      arguments, run);
  AddRequest(reset, arguments->request);
  AddLimit(reset, arguments->request);
  AddServer(reset, *arguments);

  CLI::App& refund = AddCommand(
      app, {"refund", "Give back what a request has paid", "/api/v1/refund", request, PrintBuckets},
      arguments, run);
  AddRequest(refund, arguments->request);
  AddCost(refund, arguments->request);
  AddLimit(refund, arguments->request);
  AddServer(refund, *arguments);

  CLI::App& reload = AddCommand(app,
                                {"reload", "Have the daemon read its limits file again",
                                 "/api/v1/reload", object, PrintReloads},
                                arguments, run);
  AddServer(reload, *arguments);

  CLI::App& list = AddCommand(
      limits, {"list", "Show the limits in force", "/api/v1/limits", nothing, PrintLimits},
      arguments, run);
  AddServer(list, *arguments);
}

}  // namespace ratelimiter
