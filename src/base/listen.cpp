#include "ratelimiter/base/listen.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace ratelimiter {
namespace {

// A bound socket, or -1 with errno set.
int Bind(int family, const sockaddr* address, socklen_t size) {
  const int descriptor = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return -1;
  // Without SO_REUSEADDR a port that was in use a moment ago counts as taken. Without V6ONLY
  // "::" is IPv4 too, whatever the machine's default is.
  const int yes = 1;
  const int no = 0;
  setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (family == AF_INET6) setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
  if (bind(descriptor, address, size) == 0) return descriptor;
  const int error = errno;
  close(descriptor);
  errno = error;
  return -1;
}

int Bind(const std::string& address, std::uint16_t port) {
  const std::string effective = EffectiveAddress(address);
  sockaddr_in v4{};
  if (inet_pton(AF_INET, effective.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    return Bind(AF_INET, reinterpret_cast<const sockaddr*>(&v4), sizeof v4);
  }
  sockaddr_in6 v6{};
  if (inet_pton(AF_INET6, effective.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    return Bind(AF_INET6, reinterpret_cast<const sockaddr*>(&v6), sizeof v6);
  }
  errno = EINVAL;
  return -1;
}

}  // namespace

bool HasIpv6() {
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  const int descriptor = Bind(AF_INET6, reinterpret_cast<const sockaddr*>(&any), sizeof any);
  if (descriptor < 0) return false;
  close(descriptor);
  return true;
}

std::string EffectiveAddress(const std::string& address) {
  in6_addr v6{};
  if (inet_pton(AF_INET6, address.c_str(), &v6) != 1) return address;
  if (IN6_IS_ADDR_UNSPECIFIED(&v6) && !HasIpv6()) return "0.0.0.0";
  std::array<char, INET_ADDRSTRLEN> v4{};
  if (!IN6_IS_ADDR_V4MAPPED(&v6)) return address;
  return inet_ntop(AF_INET, &v6.s6_addr[12], v4.data(), v4.size());
}

std::error_code CheckListen(const std::string& address, std::uint16_t port) {
  const int descriptor = Bind(address, port);
  if (descriptor < 0) return {errno, std::generic_category()};
  close(descriptor);
  return {};
}

std::error_code Listen(const std::string& address, std::uint16_t port, int& listener) {
  listener = Bind(address, port);
  if (listener < 0) return {errno, std::generic_category()};
  // Connections inherit TCP_NODELAY: answers are small and are sent at once.
  const int yes = 1;
  setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  // As long a queue as the system allows.
  if (listen(listener, SOMAXCONN) == 0) return {};
  const std::error_code error(errno, std::generic_category());
  close(listener);
  listener = -1;
  return error;
}

std::uint16_t PortOf(int listener) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.ss_family == AF_INET ? reinterpret_cast<sockaddr_in&>(address).sin_port
                                            : reinterpret_cast<sockaddr_in6&>(address).sin6_port);
}

}  // namespace ratelimiter
