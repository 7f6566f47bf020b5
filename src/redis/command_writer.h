#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace ratelimiter {

// Writes one command in Redis's protocol, argument by argument.
class CommandWriter {
 public:
  explicit CommandWriter(std::size_t arguments) {
    fmt::format_to(std::back_inserter(text_), "*{}\r\n", arguments);
  }

  // An argument in several pieces.
  void Add(std::initializer_list<std::string_view> pieces) {
    std::size_t size = 0;
    for (const std::string_view piece : pieces) size += piece.size();
    fmt::format_to(std::back_inserter(text_), "${}\r\n", size);
    for (const std::string_view piece : pieces) text_ += piece;
    text_ += "\r\n";
  }
  void Add(std::uint64_t number) { Add({fmt::format_int(number).c_str()}); }

  std::string Take() { return std::move(text_); }

 private:
  std::string text_;
};

}  // namespace ratelimiter
