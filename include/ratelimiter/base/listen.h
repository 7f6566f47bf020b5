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

// Why a TCP server cannot listen on `address` and `port`; no error: it can. `address` is an
// IPv4, an IPv6 or an IPv4-mapped address, with "::" as in EffectiveAddress.
//
// Libraries that listen themselves tell less about what is wrong: ask before.
std::error_code CheckListen(const std::string& address, std::uint16_t port);

// Sets `listener` to a descriptor, the caller's to close, that listens there without blocking;
// port 0 is a free one. -1 after an error.
std::error_code Listen(const std::string& address, std::uint16_t port, int& listener);

// The port on which `listener` listens.
std::uint16_t PortOf(int listener);

}  // namespace ratelimiter
