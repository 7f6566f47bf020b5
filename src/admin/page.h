#pragma once

#include <string_view>

namespace ratelimiter {

// The live page: one HTML document, joined at build from page/. It loads nothing else, and
// requests only the admin API.
struct LivePage {
  std::string_view html;
  // SHA-256, in hex, of the text between the script tags and between the style tags.
  std::string_view script_sha256;
  std::string_view style_sha256;
};

LivePage GetLivePage();

}  // namespace ratelimiter
