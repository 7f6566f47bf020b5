#pragma once

#include <string>
#include <string_view>

#include <absl/status/status.h>

#include "ratelimiter/admin/admin_server.h"

namespace ratelimiter {

struct Reply {
  int status = 200;  // HTTP's
  std::string body;  // JSON
};

// {"error": {"code": …, "message": …}} with an HTTP status of its own, or with the
// one that its code has here.
Reply ErrorReply(int status, const absl::Status& error);
Reply ErrorReply(const absl::Status& error);

// What the admin server answers, whoever asks. Bodies are JSON; those of GET are
// not looked at.
//
// Thread-safe.
class AdminApi {
 public:
  // `limits_file`: its path; empty: there is none.
  AdminApi(AdminBackend backend, std::string limits_file);

  // The probes.
  Reply Health(std::string_view body) const;
  Reply Readiness(std::string_view body) const;

  Reply Version(std::string_view body) const;
  Reply Limits(std::string_view body) const;
  Reply Explain(std::string_view body) const;
  Reply Reset(std::string_view body) const;
  Reply Refund(std::string_view body) const;
  Reply Reload(std::string_view body) const;

 private:
  const AdminBackend backend_;
  const std::string limits_file_;
};

}  // namespace ratelimiter
