#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include <fmt/format.h>

namespace ratelimiter {

// Commands in Redis's protocol. While they are short, no memory is taken from the
// heap for them: a call's with three of the longest users' keys are.
using CommandText = fmt::basic_memory_buffer<char, 2048>;

// Appends commands in Redis's protocol to a buffer, argument by argument.
class CommandWriter {
 public:
  explicit CommandWriter(CommandText& out) : out_(out) {}

  // Begins a command of so many arguments, its name among them.
  void Begin(std::size_t arguments) { Write('*', arguments); }

  // An argument in several pieces.
  void Add(std::initializer_list<std::string_view> pieces) {
    std::size_t size = 0;
    for (const std::string_view piece : pieces) size += piece.size();
    Write('$', size);
    for (const std::string_view piece : pieces) AddWritten(piece);
    AddWritten("\r\n");
  }
  void Add(std::uint64_t number) {
    const fmt::format_int digits(number);
    Add({{digits.data(), digits.size()}});
  }

  // Arguments that are in the protocol's form already.
  void AddWritten(std::string_view arguments) {
    out_.append(arguments.data(), arguments.data() + arguments.size());
  }

 private:
  void Write(char what, std::size_t count) {
    const fmt::format_int digits(count);
    out_.push_back(what);
    AddWritten({digits.data(), digits.size()});
    AddWritten("\r\n");
  }

  CommandText& out_;
};

}  // namespace ratelimiter
