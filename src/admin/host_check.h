#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ratelimiter {

// Whether a Host header, "host" or "host:port", names this machine's loopback
// (localhost, 127.0.0.0/8, [::1]) or one of `hosts`, in any case and with any
// port. A page of another site that has its name resolve to this machine sends
// that name.
bool IsOwnHost(std::string_view authority, const std::vector<std::string>& hosts);

// The same of an Origin header: http or https, and such a host.
bool IsOwnOrigin(std::string_view origin, const std::vector<std::string>& hosts);

}  // namespace ratelimiter
