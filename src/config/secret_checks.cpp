#include "ratelimiter/config/secret_checks.h"

#include <string>
#include <string_view>

#include <fmt/format.h>

#include "ratelimiter/base/secret_file.h"

namespace ratelimiter {
namespace {

absl::Status Check(std::string_view setting, const std::string& path, std::string_view what) {
  if (path.empty()) return absl::OkStatus();
  const auto secret = ReadSecretFile(path);
  if (secret.ok()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("{}: {}; accepted: a regular file whose first line is the {}", setting,
                  std::string(secret.status().message()), what));
}

}  // namespace

absl::Status CheckSecretFiles(const Settings& settings) {
  if (settings.store == StoreKind::kRedis) {
    absl::Status password = Check("REDIS_PASSWORD_FILE", settings.redis_password_file, "password");
    if (!password.ok()) return password;
  }
  return Check("ADMIN_TOKEN_FILE", settings.admin_token_file, "token");
}

}  // namespace ratelimiter
