#include "host_check.h"

#include <arpa/inet.h>

#include <algorithm>

#include <absl/strings/match.h>

namespace ratelimiter {
namespace {

constexpr auto kNone = std::string_view::npos;

// The host of an authority without user, an IPv6 address with its brackets.
// Empty: it is not one.
std::string_view HostOf(std::string_view authority) {
  const std::size_t bracket = authority.starts_with('[') ? authority.find(']') : kNone;
  const std::size_t colon = authority.find(':', bracket == kNone ? 0 : bracket);
  const std::string_view host = authority.substr(0, colon);
  if (bracket != kNone && host.size() != bracket + 1) return {};
  if (colon == kNone) return host;
  constexpr std::size_t kMaxPortDigits = 5;
  const std::string_view port = authority.substr(colon + 1);
  const bool digits = std::ranges::all_of(port, [](char c) { return c >= '0' && c <= '9'; });
  return digits && !port.empty() && port.size() <= kMaxPortDigits ? host : std::string_view{};
}

bool IsLoopback(std::string_view host) {
  if (absl::EqualsIgnoreCase({host.data(), host.size()}, "localhost") || host == "[::1]") {
    return true;
  }
  // Four numbers, as inet_pton alone has it: "127.1" and "0x7f.0.0.1" are names.
  in_addr address{};
  constexpr std::uint32_t kLoopbackNetwork = 127;
  return inet_pton(AF_INET, std::string(host).c_str(), &address) == 1 &&
         ntohl(address.s_addr) >> 24U == kLoopbackNetwork;
}

}  // namespace

bool IsOwnHost(std::string_view authority, const std::vector<std::string>& hosts) {
  const std::string_view host = HostOf(authority);
  // A C string ends at it.
  if (host.find('\0') != kNone) return false;
  return IsLoopback(host) || std::ranges::any_of(hosts, [&](const std::string& own) {
           return absl::EqualsIgnoreCase(own, {host.data(), host.size()});
         });
}

bool IsOwnOrigin(std::string_view origin, const std::vector<std::string>& hosts) {
  const std::size_t scheme = origin.find("://");
  if (scheme == kNone) return false;
  const std::string_view name = origin.substr(0, scheme);
  return (name == "http" || name == "https") && IsOwnHost(origin.substr(scheme + 3), hosts);
}

}  // namespace ratelimiter
