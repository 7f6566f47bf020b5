#include "diagnostics.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "ratelimiter/base/text.h"

namespace ratelimiter {

std::string Quoted(std::string_view text) {
  const std::string shown = Printable(text);
  // Printable only adds bytes, unless it cuts.
  return fmt::format("\"{}\"{}", shown, shown.size() < text.size() ? "…" : "");
}

void Diagnostics::Add(SourceLocation location, std::string text) {
  if (!full()) diagnostics_.push_back({location, std::move(text)});
}

std::vector<std::string> Diagnostics::Lines(std::string_view file) const {
  constexpr std::size_t kMaxLineBytes = 8'192;
  std::vector<Diagnostic> sorted = diagnostics_;
  std::ranges::stable_sort(sorted, {}, &Diagnostic::location);

  std::vector<std::string> lines;
  lines.reserve(sorted.size() + 1);
  for (const auto& [location, text] : sorted) {
    std::string line = Printable(
        fmt::format("{}:{}:{}: {}", file, location.line, location.column, text), kMaxLineBytes);
    if (lines.empty() || lines.back() != line) lines.push_back(std::move(line));
  }
  if (full()) {
    lines.push_back(Printable(
        fmt::format("{}: more than this is not told; accepted: a file without errors", file),
        kMaxLineBytes));
  }
  return lines;
}

}  // namespace ratelimiter
