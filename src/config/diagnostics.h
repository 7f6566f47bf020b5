#pragma once

#include <compare>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace ratelimiter {

// A location in a file; both count from 1, columns in bytes.
struct SourceLocation {
  std::size_t line = 1;
  std::size_t column = 1;

  friend auto operator<=>(const SourceLocation&, const SourceLocation&) = default;
};

// A text in quotes, cut to kMaxShownBytes.
std::string Quoted(std::string_view text);

// Collects the messages about a file while it is read.
class Diagnostics {
 public:
  // Bounds the memory that a file full of errors takes.
  static constexpr std::size_t kMost = 1'000;

  // `text` is "<what was found>; accepted: <what is>". Does nothing once full.
  void Add(SourceLocation location, std::string text);

  bool full() const { return diagnostics_.size() >= kMost; }
  std::size_t size() const { return diagnostics_.size(); }

  // "<file>:<line>:<column>: <text>", by location, without duplicates (an alias is read twice).
  // No text can start a line or move the cursor.
  std::vector<std::string> Lines(std::string_view file) const;

 private:
  struct Diagnostic {
    SourceLocation location;
    std::string text;
  };

  std::vector<Diagnostic> diagnostics_;
};

}  // namespace ratelimiter
