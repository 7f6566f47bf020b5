#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ratelimiter {

// How much of a text from outside a message shows, in bytes.
inline constexpr std::size_t kMaxShownBytes = 200;

// The longest prefix of `text` that is valid UTF-8 (no surrogates, no overlong forms) and not
// over `max_bytes`, cut between characters.
std::string_view ValidUtf8Prefix(std::string_view text, std::size_t max_bytes);

// Makes `text` safe for a label, a log line or a message: replaces control characters, line
// ends, direction marks and bytes that are not UTF-8 by U+FFFD, and cuts the result between
// characters to `max_bytes`.
std::string Printable(std::string_view text, std::size_t max_bytes = kMaxShownBytes);

// Names the first character of `text` that a reader does not see, and where it is: "ends with
// a line break", "contains a no-break space (U+00A0) at character 6", "begins with a byte order
// mark (U+FEFF)". Empty if there is none. Shows nothing else of the text, which may be a secret.
std::string DescribeInvisible(std::string_view text);

// `text` without the line breaks at its end, as a Kubernetes Secret or `echo` adds them.
std::string_view WithoutLineBreaks(std::string_view text);

}  // namespace ratelimiter
