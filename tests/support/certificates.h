#pragma once

#include <string>

namespace ratelimiter::testing {

// Certificates and keys that tests/support/make_certificates.sh makes, once in a
// process, in a folder that goes with it.
std::string Certificate(const std::string& name);  // NAME.crt
std::string KeyOf(const std::string& name);        // NAME.key

}  // namespace ratelimiter::testing
