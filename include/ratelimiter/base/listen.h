#pragma once

#include <cstdint>
#include <string>
#include <system_error>

namespace ratelimiter {

// Whether this machine has IPv6.
bool HasIpv6();

// Why a TCP server cannot listen on `address` and `port`; no error: it can.
// `address` is an IPv4 or IPv6 one; "::" is all interfaces, IPv4 and, where the
// machine has it, IPv6.
//
// To be asked before a library is told to listen there, for libraries tell less.
std::error_code CheckListen(const std::string& address, std::uint16_t port);

// Makes `listener` a descriptor, the caller's to close, that listens there without
// blocking; port 0 is a free one. -1 after an error.
std::error_code Listen(const std::string& address, std::uint16_t port, int& listener);

// The port on which it listens.
std::uint16_t PortOf(int listener);

}  // namespace ratelimiter
