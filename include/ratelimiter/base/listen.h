#pragma once

#include <cstdint>
#include <string>
#include <system_error>

namespace ratelimiter {

// Whether this machine has IPv6.
bool HasIpv6();

// The address on which a server listens for `address`: "::" is all interfaces, IPv4 and IPv6,
// and on a machine without IPv6 "0.0.0.0"; an IPv4-mapped address is the IPv4 one.
std::string EffectiveAddress(const std::string& address);

// Checks whether a TCP server can listen on `address` (IPv4, IPv6 or IPv4-mapped) and `port`;
// the error says why not.
//
// Call it before a library listens there: libraries report less.
std::error_code CheckListen(const std::string& address, std::uint16_t port);

// Makes `listener` a non-blocking listening descriptor, which the caller closes; -1 on an error.
// Port 0 picks a free one.
std::error_code Listen(const std::string& address, std::uint16_t port, int& listener);

// The port that `listener` listens on.
std::uint16_t PortOf(int listener);

}  // namespace ratelimiter
