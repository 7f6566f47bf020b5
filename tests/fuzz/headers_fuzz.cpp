// Any bytes as the headers that callers send: traceparent, x-request-id, Host and Origin.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "admin/host_check.h"
#include "ratelimiter/service/call_ids.h"
#include "require.h"

namespace ratelimiter {
namespace {

bool IsHex(std::string_view text, std::size_t size) {
  return text.size() == size && text.find_first_not_of("0123456789abcdef") == text.npos &&
         text.find_first_not_of('0') != text.npos;
}

void CheckTraceParent(std::string_view header) {
  const auto parent = ParseTraceParent(header);
  if (!parent.has_value()) return;
  Require(IsHex(parent->trace_id, 32) && IsHex(parent->span_id, 16), "ids are of hex digits");
  Require(
      parent->trace_id.data() == header.data() + 3 && parent->span_id.data() == header.data() + 36,
      "ids are those of the header");
  const std::string plain = "00-" + std::string(parent->trace_id) + '-' +
                            std::string(parent->span_id) + (parent->sampled ? "-01" : "-00");
  const auto again = ParseTraceParent(plain);
  Require(again.has_value() && again->trace_id == parent->trace_id &&
              again->span_id == parent->span_id && again->sampled == parent->sampled,
          "what was read can be written");
}

void CheckRequestId(std::string_view text) {
  if (!IsRequestId(text)) return;
  Require(!text.empty() && text.size() <= 128, "a request id is 1 to 128 bytes");
  Require(std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7F && c != '"'; }),
          "a request id forges no line");
}

void CheckHost(std::string_view text) {
  const std::vector<std::string> hosts = {"limiter.example"};
  const bool own = IsOwnHost(text, hosts);
  std::string other(text);
  for (char& c : other) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  Require(IsOwnHost(other, hosts) == own, "case does not matter");
  Require(IsOwnOrigin("https://" + std::string(text), hosts) == own, "an origin is by its host");
  Require(!own || IsOwnHost(text, {}) || text.size() >= hosts[0].size(), "a host is whole");
  // Neither a user part, nor a path, nor what ends a header is part of a host.
  Require(!own || text.find_first_of(std::string_view("@/\\?#\r\n \0", 9)) == text.npos,
          "an authority holds no other part of a URL");
  Require(!own || !IsOwnHost(std::string(text) + ".example", hosts), "no longer name is own");
}

}  // namespace
}  // namespace ratelimiter

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<char> bytes(data, data + size);
  const std::string_view text(bytes.data(), bytes.size());
  ratelimiter::CheckTraceParent(text);
  ratelimiter::CheckRequestId(text);
  ratelimiter::CheckHost(text);
  return 0;
}
