#include "ratelimiter/service/call_ids.h"

#include <algorithm>
#include <cstddef>

namespace ratelimiter {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsLowerHex(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return IsDigit(c) || (c >= 'a' && c <= 'f'); });
}

bool IsAllZeros(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c == '0'; });
}

}  // namespace

std::optional<TraceParent> ParseTraceParent(std::string_view header) {
  // version-trace_id-span_id-flags
  constexpr std::size_t kTraceId = 3;
  constexpr std::size_t kSpanId = 36;
  constexpr std::size_t kFlags = 53;
  constexpr std::size_t kSize = 55;
  if (header.size() < kSize) return std::nullopt;
  const std::string_view version = header.substr(0, 2);
  const TraceParent parent = {.trace_id = header.substr(kTraceId, 32),
                              .span_id = header.substr(kSpanId, 16)};
  const std::string_view flags = header.substr(kFlags, 2);
  for (const std::string_view part : {version, parent.trace_id, parent.span_id, flags}) {
    if (!IsLowerHex(part)) return std::nullopt;
  }
  for (const std::size_t dash : {kTraceId, kSpanId, kFlags}) {
    if (header[dash - 1] != '-') return std::nullopt;
  }
  if (version == "ff") return std::nullopt;
  if (header.size() > kSize && (version == "00" || header[kSize] != '-')) return std::nullopt;
  if (IsAllZeros(parent.trace_id) || IsAllZeros(parent.span_id)) return std::nullopt;
  const char last = flags.back();
  const int low = IsDigit(last) ? last - '0' : last - 'a' + 10;
  return TraceParent{
      .trace_id = parent.trace_id, .span_id = parent.span_id, .sampled = low % 2 == 1};
}

bool IsRequestId(std::string_view text) {
  constexpr std::size_t kMaxBytes = 128;
  constexpr std::string_view kMarks = "-_.:/+=@";
  return !text.empty() && text.size() <= kMaxBytes && std::ranges::all_of(text, [&](char c) {
    return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           kMarks.find(c) != std::string_view::npos;
  });
}

void AppendTrace(const std::optional<TraceParent>& trace, LogFields& fields) {
  if (!trace.has_value()) return;
  fields.push_back({"trace_id", trace->trace_id});
  fields.push_back({"span_id", trace->span_id});
}

}  // namespace ratelimiter
