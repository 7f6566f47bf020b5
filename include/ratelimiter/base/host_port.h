#pragma once

#include <cstdint>
#include <string>

namespace ratelimiter {

// A host, by name or address, and a port.
struct HostPort {
  std::string host;
  std::uint16_t port = 0;

  // "host:port"; an IPv6 address stands in brackets.
  std::string Text() const {
    const std::string port_text = ":" + std::to_string(port);
    return host.find(':') == std::string::npos ? host + port_text : "[" + host + "]" + port_text;
  }

  friend bool operator==(const HostPort&, const HostPort&) = default;
};

}  // namespace ratelimiter
