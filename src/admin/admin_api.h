#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <absl/status/status.h>

#include "ratelimiter/admin/admin_server.h"

namespace ratelimiter {

struct Reply {
  int status = 200;  // HTTP's
  std::string body;
  const char* type = "application/json";
  // Further ones, of HTTP.
  std::vector<std::pair<std::string, std::string>> headers{};
};

// {"error": {"code": …, "message": …}} with an HTTP status of its own, or with the
// one that its code has here.
Reply ErrorReply(int status, const absl::Status& error);
Reply ErrorReply(const absl::Status& error);

// What the admin server answers, whoever asks. Bodies are JSON, but for the page;
// those of GET are not looked at.
//
// Thread-safe.
class AdminApi {
 public:
  AdminApi(AdminBackend backend, const Settings& settings);

  // What people see of the rest, and asks for it.
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
  // Of the settings, of which no secret is kept.
  const std::string limits_file_;
  const StoreKind store_;
  const FailMode fail_mode_;
  const std::string settings_;  // In JSON.
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

}  // namespace ratelimiter
