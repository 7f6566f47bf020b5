#include "output.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <utility>

#include <fmt/format.h>

#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

std::string Shown(std::string_view text) { return Printable(text, std::string::npos); }

bool UsesColours() {
  static const bool uses = [] {
    // Nothing changes the environment.
    const char* const no_color = std::getenv("NO_COLOR");  // NOLINT(concurrency-mt-unsafe)
    return isatty(STDOUT_FILENO) == 1 && (no_color == nullptr || *no_color == '\0');
  }();
  return uses;
}

std::string_view StartOf(Style style) {
  switch (style) {
    case Style::kAllowed:
      return "\x1b[32m";
    case Style::kRefused:
      return "\x1b[31m";
    case Style::kShadow:
      return "\x1b[2m";
    case Style::kPlain:
      break;
  }
  return "";
}

// Characters, not bytes.
std::size_t Width(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

}  // namespace

void TellError(std::string_view message) { std::cerr << Shown(message) << '\n'; }

void PrintLine(std::string_view line, Style style) {
  const std::string_view start = UsesColours() ? StartOf(style) : "";
  std::cout << start << Shown(line) << (start.empty() ? "" : "\x1b[0m") << '\n';
}

void PrintJson(const nlohmann::ordered_json& json) {
  // DEL and the C1 controls, which a terminal obeys, are escaped in ASCII alone.
  constexpr bool kAscii = true;
  constexpr int kIndent = 2;
  std::cout << json.dump(kIndent, ' ', kAscii) << '\n';
}

Table::Table(std::vector<std::string> headings) { Add(std::move(headings)); }

void Table::Add(std::vector<std::string> cells, Style style) {
  for (std::string& cell : cells) cell = cell.empty() ? "-" : Shown(cell);
  rows_.push_back({.cells = std::move(cells), .style = style});
}

void Table::Print() const {
  constexpr std::size_t kGap = 2;
  std::vector<std::size_t> widths(rows_.front().cells.size());
  for (const Row& row : rows_) {
    for (std::size_t i = 0; i < widths.size(); ++i) {
      widths[i] = std::max(widths[i], Width(row.cells[i]));
    }
  }
  for (const Row& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      line += row.cells[i];
      if (i + 1 < widths.size()) line.append(widths[i] - Width(row.cells[i]) + kGap, ' ');
    }
    PrintLine(line, row.style);
  }
}

ProgressBar::ProgressBar() : shows_(isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (width_ > 0) std::cerr << fmt::format("\r{:{}}\r", "", width_) << std::flush;
}

void ProgressBar::Show(double fraction, std::string_view note) {
  if (!shows_) return;
  constexpr int kCells = 30;
  const int done = static_cast<int>(fraction * kCells);
  const std::string line = fmt::format("[{:#<{}}{:{}}] {:3.0f}%  {}", "", done, "", kCells - done,
                                       fraction * 100, Shown(note));
  // What a longer line left behind is written over.
  width_ = std::max(width_, Width(line));
  std::cerr << fmt::format("\r{:{}}", line, width_) << std::flush;
}

std::string CountedLimits(std::size_t count) {
  return fmt::format("{} {}", count, count == 1 ? "limit" : "limits");
}

std::string DescribeWait(std::chrono::microseconds wait) {
  using namespace std::chrono_literals;
  using std::chrono::ceil;
  const auto two = [](auto larger, std::string_view larger_unit, auto smaller,
                      std::string_view smaller_unit) {
    if (smaller.count() == 0) return fmt::format("{}{}", larger.count(), larger_unit);
    return fmt::format("{}{} {}{}", larger.count(), larger_unit, smaller.count(), smaller_unit);
  };
  if (wait == 0us) return "0s";
  if (wait < 1ms) return fmt::format("{}us", wait.count());
  if (const auto milliseconds = ceil<std::chrono::milliseconds>(wait); milliseconds < 1s) {
    return fmt::format("{}ms", milliseconds.count());
  }
  using Tenths = std::chrono::duration<std::int64_t, std::deci>;
  if (const auto tenths = ceil<Tenths>(wait); tenths < 1min) {
    const auto seconds = std::chrono::floor<std::chrono::seconds>(tenths);
    const auto rest = (tenths - seconds).count();
    return rest == 0 ? fmt::format("{}s", seconds.count())
                     : fmt::format("{}.{}s", seconds.count(), rest);
  }
  if (const auto seconds = ceil<std::chrono::seconds>(wait); seconds < 1h) {
    const auto minutes = std::chrono::floor<std::chrono::minutes>(seconds);
    return two(minutes, "m", seconds - minutes, "s");
  }
  if (const auto minutes = ceil<std::chrono::minutes>(wait); minutes < 24h) {
    const auto hours = std::chrono::floor<std::chrono::hours>(minutes);
    return two(hours, "h", minutes - hours, "m");
  }
  const auto hours = ceil<std::chrono::hours>(wait);
  const auto days = std::chrono::floor<std::chrono::days>(hours);
  return two(days, "d", hours - days, "h");
}

std::string DescribeLatency(std::chrono::nanoseconds latency) {
  using Microseconds = std::chrono::duration<double, std::micro>;
  double value = Microseconds(latency).count();
  std::string_view unit = "us";
  for (const std::string_view larger : {"ms", "s"}) {
    if (value < 999.5) break;
    value /= 1000;
    unit = larger;
  }
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f}{}", value, decimals, unit);
}

}  // namespace ratelimiter
