#include "admin_client.h"

#include <httplib.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <stop_token>
#include <system_error>
#include <thread>

#include <fmt/format.h>

#include "output.h"
#include "ratelimiter/base/duration.h"
#include "ratelimiter/base/secret_file.h"

namespace ratelimiter {
namespace {

constexpr int kOk = 200;

// nullopt after printing an error: the port is unknown.
std::optional<AdminAddress> FindServer(const AdminArguments& arguments) {
  if (!arguments.target.empty()) return ParseAdminAddress(arguments.target);
  if (!arguments.port.empty() && arguments.port != "off") {
    return ParseAdminAddress("localhost:" + arguments.port);
  }
  TellError(
      "rlctl: the admin server's port is unknown: start ratelimiterd with ADMIN_PORT (off by "
      "default), and pass the same ADMIN_PORT, --admin-port or --admin-target here");
  return std::nullopt;
}

void TellFailure(const AdminAddress& server, const httplib::Response& response) {
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

// A client, over TLS if `tls` says so. It sets `verified` to what is wrong with the server's
// certificate, X509_V_OK if nothing is. nullptr after printing an error: the CA file is unusable.
std::unique_ptr<httplib::ClientImpl> MakeClient(const AdminAddress& server, const TlsArguments& tls,
                                                int& verified) {
  if (!tls.on()) return std::make_unique<httplib::ClientImpl>(server.host, server.port);
  auto client = std::make_unique<httplib::SSLClient>(server.host, server.port);
  // httplib compares the certificate with the called host only; OpenSSL with any name.
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

// The headers of a request. nullopt after printing an error: the token cannot be read.
std::optional<httplib::Headers> HeadersFor(const AdminAddress& server,
                                           const std::string& token_file) {
  // httplib's own Host header lacks the brackets of an IPv6 address.
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

// Why a request got no response.
std::string WhyNoAnswer(httplib::Error error, int verified, std::chrono::microseconds timeout) {
  if (verified != X509_V_OK) {
    return fmt::format("its certificate is not trusted: {} (--tls-ca, --tls-server-name)",
                       X509_verify_cert_error_string(verified));
  }
  if (error == httplib::Error::Connection || error == httplib::Error::ConnectionTimeout) {
    return "no connection";
  }
  if (error == httplib::Error::SSLConnection) return "it does not speak TLS (--tls)";
  return fmt::format("no complete response within {} (--timeout)", FormatDuration(timeout));
}

}  // namespace

std::optional<AdminAddress> ParseAdminAddress(const std::string& text) {
  AdminAddress address{.text = text};
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

std::optional<Json> AskAdmin(const AdminArguments& arguments, const std::string& path,
                             const std::optional<Json>& body) {
  const std::optional<AdminAddress> server = FindServer(arguments);
  if (!server.has_value()) return std::nullopt;
  int verified = X509_V_OK;
  const auto client = MakeClient(*server, arguments.tls, verified);
  const auto headers = HeadersFor(*server, arguments.token_file);
  if (client == nullptr || !headers.has_value()) return std::nullopt;
  client->set_connection_timeout(arguments.answer.timeout);
  client->set_read_timeout(arguments.answer.timeout);
  client->set_write_timeout(arguments.answer.timeout);
  // These bound each read; the alarm bounds the whole exchange, even with a server that sends a
  // byte at a time.
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

std::string Text(const Json& object, std::string_view key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return {};
  return found->is_string() ? found->get<std::string>() : found->dump();
}

bool IsTrue(const Json& object, std::string_view key) { return Text(object, key) == "true"; }

const Json& Members(const Json& object, std::string_view key) {
  static const Json none = Json::array();
  const auto found = object.find(key);
  return found != object.end() && found->is_structured() ? *found : none;
}

}  // namespace ratelimiter
