#include "ratelimiter/admin/admin_server.h"

#include <httplib.h>
#include <openssl/crypto.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <future>
#include <iterator>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <fmt/format.h>

#include "admin_api.h"
#include "host_check.h"
#include "http_connection.h"
#include "ratelimiter/base/listen.h"
#include "ratelimiter/base/secret_file.h"
#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

constexpr std::size_t kMaxBodyBytes = std::size_t{64} * 1024;
// Requests at once; more wait for one of them to end.
constexpr std::size_t kThreads = 8;
constexpr const char* kJson = "application/json";

enum class Access : std::uint8_t {
  kToken,  // By who bears the token, if there is one.
  kPage,   // By anybody of this machine: it tells nothing, and asks for the token itself.
  kProbe,  // By machines under any name: it tells nothing but its answer.
};

struct Route {
  std::string_view method;
  const char* path;
  Reply (AdminApi::*reply)(std::string_view body) const;
  Access access = Access::kToken;
};

constexpr Route kRoutes[] = {
    {"GET", "/healthz", &AdminApi::Health, Access::kProbe},
    {"GET", "/readyz", &AdminApi::Readiness, Access::kProbe},
    {"GET", "/", &AdminApi::Page, Access::kPage},
    {"GET", "/api/v1/version", &AdminApi::Version},
    {"GET", "/api/v1/limits", &AdminApi::Limits},
    {"GET", "/api/v1/settings", &AdminApi::AllSettings},
    {"GET", "/api/v1/stats", &AdminApi::Stats},
    {"GET", "/api/v1/top", &AdminApi::Top},
    {"POST", "/api/v1/check", &AdminApi::Check},
    {"POST", "/api/v1/explain", &AdminApi::Explain},
    {"POST", "/api/v1/reset", &AdminApi::Reset},
    {"POST", "/api/v1/refund", &AdminApi::Refund},
    {"POST", "/api/v1/reload", &AdminApi::Reload},
};

// GET's answer without its body is HEAD's.
bool Takes(const Route& route, std::string_view method) {
  return method == route.method || (method == "HEAD" && route.method == "GET");
}

void Send(const Reply& reply, httplib::Response& response) {
  response.status = reply.status;
  response.set_content(reply.body, reply.type);
  for (const auto& [name, value] : reply.headers) response.set_header(name, value);
}

// A header that must be there once; nothing if it is not.
std::optional<std::string> Single(const httplib::Request& request, const char* name) {
  // httplib's own get_header_value ends at a NUL.
  const auto [first, last] = request.headers.equal_range(name);
  if (std::distance(first, last) != 1) return std::nullopt;
  return first->second;
}

std::string Describe(const std::optional<std::string>& header) {
  return header.has_value() ? fmt::format("\"{}\"", Printable(*header, kMaxShownBytes))
                            : "missing or repeated";
}

// Whether a request comes from this machine's own programs and pages, or is for the page,
// which has no data: OK, or PERMISSION_DENIED.
absl::Status CheckSource(const httplib::Request& request, Access access,
                         const std::vector<std::string>& hosts) {
  constexpr std::string_view kOwn = "localhost, 127.0.0.0/8, [::1] and the names of ADMIN_HOSTS";
  const std::optional<std::string> host = Single(request, "Host");
  if (!host.has_value() || !IsOwnHost(*host, hosts)) {
    return absl::PermissionDeniedError(
        fmt::format("Host is {}; accepted: {}", Describe(host), kOwn));
  }
  if (request.has_header("Origin")) {
    const std::optional<std::string> origin = Single(request, "Origin");
    if (!origin.has_value() || !IsOwnOrigin(*origin, hosts)) {
      return absl::PermissionDeniedError(fmt::format(
          "Origin is {}; accepted: none, or http or https and one of {}", Describe(origin), kOwn));
    }
  }
  // A person follows a link, and sees the page in a tab of its own.
  const bool follows_link = access == Access::kPage &&
                            Single(request, "Sec-Fetch-Mode") == "navigate" &&
                            Single(request, "Sec-Fetch-Dest") == "document";
  if (request.has_header("Sec-Fetch-Site") && !follows_link) {
    const std::optional<std::string> site = Single(request, "Sec-Fetch-Site");
    if (site != "same-origin" && site != "same-site" && site != "none") {
      return absl::PermissionDeniedError(fmt::format(
          "Sec-Fetch-Site is {}; accepted: same-origin, same-site, none", Describe(site)));
    }
  }
  return absl::OkStatus();
}

// Whether a request bears the token that `file` has now. OK, UNAUTHENTICATED, or
// UNAVAILABLE.
absl::Status CheckToken(const httplib::Request& request, const std::string& file) {
  const absl::StatusOr<std::string> token = ReadSecretFile(file);
  // Who has not shown it is not told where it would be.
  if (!token.ok()) return absl::UnavailableError("ADMIN_TOKEN_FILE cannot be read just now");
  constexpr std::string_view kScheme = "Bearer ";
  const std::string said = Single(request, "Authorization").value_or("");
  const std::string_view shown =
      std::string_view(said).substr(std::min(said.size(), kScheme.size()));
  // How long it takes tells nothing but its length.
  if (absl::StartsWithIgnoreCase(said, {kScheme.data(), kScheme.size()}) &&
      shown.size() == token->size() &&
      CRYPTO_memcmp(shown.data(), token->data(), token->size()) == 0) {
    return absl::OkStatus();
  }
  return absl::UnauthenticatedError(
      fmt::format("{}; accepted: Authorization: Bearer and the token in ADMIN_TOKEN_FILE",
                  said.empty() ? "there is no token" : "the token is another"));
}

// What a request has to say of its body before it is read. A page of another site
// cannot send JSON without asking first, by OPTIONS, which nothing here allows.
std::optional<Reply> RefuseBody(const httplib::Request& request) {
  constexpr int kLengthRequired = 411;
  constexpr int kUnsupportedMediaType = 415;
  if (request.has_header("Transfer-Encoding")) {
    return ErrorReply(kLengthRequired,
                      absl::InvalidArgumentError("the body comes with a Transfer-Encoding; "
                                                 "accepted: one with a Content-Length"));
  }
  const std::optional<std::string> type = Single(request, "Content-Type");
  std::string media = type.value_or("");
  media.resize(std::min(media.size(), media.find(';')));
  absl::StripAsciiWhitespace(&media);
  if (!absl::EqualsIgnoreCase(media, kJson) || request.has_header("Content-Encoding")) {
    return ErrorReply(
        kUnsupportedMediaType,
        absl::InvalidArgumentError(fmt::format(
            "Content-Type is {}; accepted: {}, without Content-Encoding", Describe(type), kJson)));
  }
  return std::nullopt;
}

// What httplib answers by itself.
void DescribeError(httplib::Response& response) {
  if (!response.body.empty()) return;
  constexpr int kPayloadTooLarge = 413;
  constexpr int kFirstServerError = 500;
  if (response.status >= kFirstServerError) {
    Send(ErrorReply(response.status, absl::InternalError("the request failed")), response);
  } else {
    Send(ErrorReply(response.status, absl::InvalidArgumentError(
                                         response.status == kPayloadTooLarge
                                             ? fmt::format("the body is too long; accepted: at "
                                                           "most {} bytes",
                                                           kMaxBodyBytes)
                                             : "this is not an HTTP request as it is accepted "
                                               "here")),
         response);
  }
}

class HttpServer final : public AdminServer, private httplib::Server {
 public:
  HttpServer(const Settings& settings, const ServerTls* tls, AdminBackend backend)
      : hosts_(settings.admin_hosts),
        token_file_(settings.admin_token_file),
        tls_(tls),
        api_(backend, settings) {
    set_socket_options([](socket_t socket) {
      // Without httplib's SO_REUSEPORT, by which a second server would silently
      // share a taken port.
      const int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    set_payload_max_length(kMaxBodyBytes);
    set_default_headers({{"Cache-Control", "no-store"}, {"X-Content-Type-Options", "nosniff"}});
    set_pre_routing_handler([this](const httplib::Request& request, httplib::Response& response) {
      return Refuse(request, response) ? HandlerResponse::Handled : HandlerResponse::Unhandled;
    });
    for (const Route& route : kRoutes) {
      const auto handle = [this, &route](const httplib::Request& request,
                                         httplib::Response& response) {
        Send((api_.*route.reply)(request.body), response);
      };
      if (route.method == "GET") {
        Get(route.path, handle);
      } else {
        Post(route.path, handle);
      }
    }
    set_error_handler([](const httplib::Request& /*request*/, httplib::Response& response) {
      DescribeError(response);
    });
    set_exception_handler([](const httplib::Request& /*request*/, httplib::Response& response,
                             const std::exception_ptr& /*error*/) {
      Send(ErrorReply(absl::InternalError("the request failed")), response);
    });
  }

  ~HttpServer() override {
    stopping_ = true;
    stop();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Listen(const std::string& bind, std::uint16_t port) {
    const auto failure = [&](const std::string& why) {
      return absl::UnavailableError(
          fmt::format("cannot listen on {} port {} for the admin server: {}", bind, port, why));
    };
    // httplib does not say why it cannot.
    if (const auto error = CheckListen(bind, port); error) return failure(error.message());
    const std::string address = EffectiveAddress(bind);
    int bound = port;
    if (port == 0) {
      bound = bind_to_any_port(address);
    } else if (!bind_to_port(address, port)) {
      bound = -1;
    }
    if (bound <= 0) return failure("the HTTP library cannot, and does not say why");
    port_ = static_cast<std::uint16_t>(bound);
    // stop() does nothing before it runs: httplib asks for its threads when it does.
    std::promise<void> running;
    new_task_queue = [&running] {
      auto threads = std::make_unique<httplib::ThreadPool>(kThreads);
      running.set_value();
      return threads.release();
    };
    thread_ = std::thread([this] { listen_after_bind(); });
    running.get_future().wait();
    return absl::OkStatus();
  }

  std::uint16_t port() const override { return port_; }

 private:
  // Whether it has answered a request that goes no further.
  bool Refuse(const httplib::Request& request, httplib::Response& response) const {
    // The server's own, which handlers see as const. A server may ignore what is
    // taken out: httplib would repeat a long answer as often as ranges ask, and
    // compress it for longer than sending it takes. A body whose length is not told
    // is none, where httplib would wait for the end of the connection.
    auto& changed = const_cast<httplib::Request&>(request);
    changed.ranges.clear();
    changed.headers.erase("Accept-Encoding");
    if (!request.has_header("Content-Length")) changed.headers.emplace("Content-Length", "0");

    const auto at_path = [&](const Route& route) { return request.path == route.path; };
    const Route* const route = std::ranges::find_if(kRoutes, at_path);
    const bool known = route != std::end(kRoutes);
    const Access access = known ? route->access : Access::kToken;
    if (access != Access::kProbe) {
      if (const absl::Status allowed = CheckSource(request, access, hosts_); !allowed.ok()) {
        Send(ErrorReply(allowed), response);
        return true;
      }
    }
    if (!token_file_.empty() && access == Access::kToken) {
      if (const absl::Status allowed = CheckToken(request, token_file_); !allowed.ok()) {
        if (absl::IsUnauthenticated(allowed)) response.set_header("WWW-Authenticate", "Bearer");
        Send(ErrorReply(allowed), response);
        return true;
      }
    }
    if (!known) {
      Send(ErrorReply(absl::NotFoundError(
               fmt::format("there is no {}; docs/use/admin-api.md lists what there is",
                           Printable(request.path, kMaxShownBytes)))),
           response);
      return true;
    }
    if (!Takes(*route, request.method)) {
      const std::string allowed = route->method == "GET" ? "GET, HEAD" : std::string(route->method);
      response.set_header("Allow", allowed);
      Send(ErrorReply(absl::UnimplementedError(
               fmt::format("the method is {}; accepted: {}", request.method, allowed))),
           response);
      return true;
    }
    if (route->method != "POST") return false;
    const std::optional<Reply> refusal = RefuseBody(request);
    if (refusal.has_value()) Send(*refusal, response);
    return refusal.has_value();
  }

  // httplib's seam for other transports. One request a connection: the body of one
  // that was refused is not read, and must not pass for the next.
  bool process_and_close_socket(socket_t socket) override {
    // For as long as the connection has it, whatever is read meanwhile.
    const auto identity = tls_ == nullptr ? nullptr : tls_->identity();
    if (stopping_) {
      close(socket);
      return false;
    }
    try {
      HttpConnection connection(socket, identity == nullptr ? nullptr : identity->context.get());
      Process(connection);
      connection.Finish();
    } catch (const std::exception&) {  // No memory, as like as not: nothing can be told.
      return false;
    }
    return true;
  }

  // Its later versions want the addresses, of which nobody here asks.
  void Process(auto& connection) {
    bool closed = false;
    const std::string address;
    if constexpr (requires {
                    this->process_request(connection, address, 0, address, 0, true, closed,
                                          nullptr);
                  }) {
      this->process_request(connection, address, 0, address, 0, true, closed, nullptr);
    } else {
      this->process_request(connection, true, closed, nullptr);
    }
  }

  const std::vector<std::string> hosts_;
  const std::string token_file_;  // Empty: no token is asked for.
  const ServerTls* const tls_;    // nullptr: without TLS.
  const AdminApi api_;
  std::uint16_t port_ = 0;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(const Settings& settings,
                                                                const ServerTls* tls,
                                                                AdminBackend backend) {
  auto server = std::make_unique<HttpServer>(settings, tls, backend);
  if (absl::Status status = server->Listen(settings.admin_bind, settings.admin_port.value_or(0));
      !status.ok()) {
    return status;
  }
  return server;
}

}  // namespace ratelimiter
