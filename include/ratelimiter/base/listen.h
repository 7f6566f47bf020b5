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
// To be asked before a library is told to listen there: where IPv6 alone is
// taken of "::", gRPC listens on IPv4 and says nothing of it.
std::error_code CheckListen(const std::string& address, std::uint16_t port);

}  // namespace ratelimiter
