#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/status/status.h>

#include "ratelimiter/admin/admin_server.h"

namespace ratelimiter {

// An HTTP response.
struct Reply {
  int status = 200;  // HTTP status code.
  std::string body;
  const char* type = "application/json";
  // Further HTTP headers.
  std::vector<std::pair<std::string, std::string>> headers{};
};

// {"error": {"code": …, "message": …}} with this HTTP status, or with the one of the code.
Reply ErrorReply(int status, const absl::Status& error);
Reply ErrorReply(const absl::Status& error);

// The handlers of the admin server's routes. Bodies are JSON, except the page. Handlers of GET
// ignore the body.
//
// Thread-safe.
class AdminApi {
 public:
  AdminApi(AdminBackend backend, const Settings& settings);

  // The live page.
  Reply Page(std::string_view body) const;

  // The probes.
  Reply Health(std::string_view body) const;
  Reply Readiness(std::string_view body) const;

  Reply Version(std::string_view body) const;
  Reply Limits(std::string_view body) const;
  Reply AllSettings(std::string_view body) const;
  Reply Stats(std::string_view body) const;
  Reply Top(std::string_view body) const;
  Reply Check(std::string_view body) const;
  Reply Explain(std::string_view body) const;
  Reply Reset(std::string_view body) const;
  Reply Refund(std::string_view body) const;
  Reply Reload(std::string_view body) const;

 private:
  const AdminBackend backend_;
  const std::string limits_file_;
  const FailMode fail_mode_;
  const std::string settings_;  // JSON, with secrets masked.
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

}  // namespace ratelimiter
