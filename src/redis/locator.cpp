#include "locator.h"

#include <utility>

#include "master_finder.h"
#include "resolver.h"

namespace ratelimiter {
namespace {

class SocketLocator final : public Locator {
 public:
  explicit SocketLocator(std::string path) : path_(std::move(path)) {}

  absl::StatusOr<Location> Find(Deadline /*deadline*/) override {
    return Location{.addresses = {path_}};
  }

 private:
  const std::string path_;
};

}  // namespace

std::unique_ptr<Locator> MakeLocator(const RedisServer& server, std::chrono::milliseconds timeout) {
  if (!server.sentinels.empty()) return std::make_unique<MasterFinder>(server, timeout);
  if (!server.socket.empty()) return std::make_unique<SocketLocator>(server.socket);
  return std::make_unique<Resolver>(server.host);
}

}  // namespace ratelimiter
