#include "ratelimiter/base/listen.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

namespace ratelimiter {
namespace {

std::error_code TryToBind(int family, const sockaddr* address, socklen_t size) {
  const int descriptor = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return {errno, std::generic_category()};
  // As servers do, or a port that was in use a moment ago would count as taken;
  // and for "::" to be IPv4 as well, whatever the machine's default is.
  const int yes = 1;
  const int no = 0;
  setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (family == AF_INET6) setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
  const int error = bind(descriptor, address, size) == 0 ? 0 : errno;
  close(descriptor);
  return {error, std::generic_category()};
}

}  // namespace

bool HasIpv6() {
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  return !TryToBind(AF_INET6, reinterpret_cast<const sockaddr*>(&any), sizeof any);
}

std::error_code CheckListen(const std::string& address, std::uint16_t port) {
  if (address == "::" && !HasIpv6()) return CheckListen("0.0.0.0", port);
  sockaddr_in v4{};
  if (inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    return TryToBind(AF_INET, reinterpret_cast<const sockaddr*>(&v4), sizeof v4);
  }
  sockaddr_in6 v6{};
  if (inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    return TryToBind(AF_INET6, reinterpret_cast<const sockaddr*>(&v6), sizeof v6);
  }
  return std::make_error_code(std::errc::invalid_argument);
}

}  // namespace ratelimiter
