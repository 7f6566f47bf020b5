#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace ratelimiter {

// How rlctl writes. Whatever servers and callers put into a text, it cannot
// forge a line or steer the terminal: all of this passes through Printable.

// Errors, on stderr, one line each.
void TellError(std::string_view message);

// Results, on stdout. Colours appear on a terminal alone, and not where NO_COLOR
// is set.
enum class Style { kPlain, kAllowed, kRefused, kShadow };

void PrintLine(std::string_view line, Style style = Style::kPlain);

// Indented, in ASCII.
void PrintJson(const nlohmann::ordered_json& json);

// Lines whose columns stand below each other.
class Table {
 public:
  explicit Table(std::vector<std::string> headings);

  // As many cells as there are headings. An empty one is shown as "-".
  void Add(std::vector<std::string> cells, Style style = Style::kPlain);
  void Print() const;

 private:
  struct Row {
    std::vector<std::string> cells;
    Style style;
  };

  std::vector<Row> rows_;
};

// How far something is, on stderr if that is a terminal; else nothing is shown.
// Gone from there when this ends.
class ProgressBar {
 public:
  ProgressBar();
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // `share` is 0 to 1.
  void Show(double fraction, std::string_view note);

 private:
  const bool shows_;
  std::size_t width_ = 0;
};

// "1 limit", "2 limits".
std::string CountedLimits(std::size_t count);

// How long to wait, for people: 250us, 12ms, 1.5s, 2m 3s, 5h 10m, 29d 23h.
// Rounded up, for after that time the wait is to be over.
std::string DescribeWait(std::chrono::microseconds wait);

// What was measured, in three digits: 87.2us, 1.25ms, 12.5ms, 2.08s.
std::string DescribeLatency(std::chrono::nanoseconds latency);

}  // namespace ratelimiter
