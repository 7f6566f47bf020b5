#pragma once

#include <compare>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace ratelimiter {

// Where something stands in a file; both from 1, the column in bytes.
struct SourceLocation {
  std::size_t line = 1;
  std::size_t column = 1;

  friend auto operator<=>(const SourceLocation&, const SourceLocation&) = default;
};

// A text of a file between quotes, cut to what is worth showing.
std::string Quoted(std::string_view text);

// What was found in a file that is worth telling, collected while it is read.
class Diagnostics {
 public:
  // More than anyone reads; a file of errors alone must not become gigabytes.
  static constexpr std::size_t kMost = 1'000;

  // `text` is "<what was found>; accepted: <what is>". No more are kept once it
  // is full.
  void Add(SourceLocation location, std::string text);

  bool full() const { return diagnostics_.size() >= kMost; }
  std::size_t size() const { return diagnostics_.size(); }

  // "<file>:<line>:<column>: <text>", by location, each once (through an alias
  // something may be read twice). No text can begin a line or move a cursor.
  std::vector<std::string> Lines(std::string_view file) const;

 private:
  struct Diagnostic {
    SourceLocation location;
    std::string text;
  };

  std::vector<Diagnostic> diagnostics_;
};

}  // namespace ratelimiter
