#pragma once

#include <string_view>

namespace ratelimiter {

// The page that people see: page.html, byte for byte. It is whole, and so asks for
// nothing but the admin API.
struct LivePage {
  std::string_view html;
  // Of what is between <script> and </script>, and of the style, in hex.
  std::string_view script_sha256;
  std::string_view style_sha256;
};

LivePage GetLivePage();

}  // namespace ratelimiter
