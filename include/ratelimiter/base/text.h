#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ratelimiter {

// The longest prefix of `text` that is valid UTF-8 (no surrogates, no overlong
// forms) and at most `max_bytes` long, cut between characters.
std::string_view ValidUtf8Prefix(std::string_view text, std::size_t max_bytes);

// `text` made fit for a label, a log line or a message: control characters, what ends
// a line or turns the direction of text, and bytes that are not UTF-8 become U+FFFD,
// and what is beyond `max_bytes` is cut between characters.
std::string Printable(std::string_view text, std::size_t max_bytes);

}  // namespace ratelimiter
