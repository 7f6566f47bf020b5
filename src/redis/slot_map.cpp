#include "slot_map.h"

#include <array>
#include <charconv>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

// CRC-16/XMODEM: polynomial 0x1021, no reflection, begun with 0. By byte.
constexpr std::array<std::uint16_t, 256> kCrcs = [] {
  std::array<std::uint16_t, 256> crcs{};
  for (std::uint32_t byte = 0; byte < crcs.size(); ++byte) {
    std::uint32_t crc = byte << 8U;
    for (int bit = 0; bit < 8; ++bit) crc = (crc << 1U) ^ ((crc & 0x8000U) != 0 ? 0x1021U : 0U);
    crcs[byte] = static_cast<std::uint16_t>(crc);
  }
  return crcs;
}();

std::uint16_t Crc16(std::string_view text) {
  std::uint32_t crc = 0;
  for (const char c : text) {
    crc = (crc << 8U) ^ kCrcs[((crc >> 8U) ^ static_cast<unsigned char>(c)) & 0xFFU];
  }
  return static_cast<std::uint16_t>(crc);
}

// The whole of `text` as a port.
std::optional<std::uint16_t> ReadPort(std::string_view text) {
  std::uint16_t port = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, port);
  if (error != std::errc() || rest != end || port == 0) return std::nullopt;
  return port;
}

// Reads the values of a reply one after the other.
class Reader {
 public:
  explicit Reader(const RedisReply& reply) : reply_(reply) {}

  // Steps over one value and all that is in it.
  void Skip() {
    for (std::int64_t values = 1; values > 0 && at_ < reply_.size(); --values) {
      if (IsArray() && reply_.integer(at_) > 0) values += reply_.integer(at_);
      ++at_;
    }
  }

  // How many elements the array has that begins here; nullopt: none does.
  std::optional<std::int64_t> Array() {
    if (at_ >= reply_.size() || !IsArray()) return std::nullopt;
    return reply_.integer(at_++);
  }

  // An integer from 0 to `most`.
  std::optional<std::uint16_t> Integer(std::uint16_t most) {
    if (at_ >= reply_.size() || reply_.type(at_) != RedisReply::Type::kInteger) return std::nullopt;
    const std::int64_t number = reply_.integer(at_++);
    if (number < 0 || std::cmp_greater(number, most)) return std::nullopt;
    return static_cast<std::uint16_t>(number);
  }

  // Empty: it is no string.
  std::string Text() {
    if (at_ >= reply_.size()) return {};
    std::string text;
    if (reply_.type(at_) == RedisReply::Type::kString) text = reply_.text(at_);
    Skip();
    return text;
  }

 private:
  bool IsArray() const { return reply_.type(at_) == RedisReply::Type::kArray; }

  const RedisReply& reply_;
  std::size_t at_ = 0;
};

// First slot, last slot, the master (host, port, …), and its replicas.
std::optional<SlotRange> ReadRange(Reader& reader, const HostPort& asked) {
  const auto elements = reader.Array();
  if (!elements.has_value() || *elements < 3) return std::nullopt;
  const auto first = reader.Integer(kSlots - 1);
  const auto last = reader.Integer(kSlots - 1);
  const auto facts = reader.Array();
  if (!first.has_value() || !last.has_value() || *last < *first) return std::nullopt;
  if (!facts.has_value() || *facts < 2) return std::nullopt;
  std::string host = reader.Text();
  const auto port = reader.Integer(std::numeric_limits<std::uint16_t>::max());
  if (!port.has_value() || *port == 0) return std::nullopt;
  for (std::int64_t i = 2; i < *facts; ++i) reader.Skip();
  for (std::int64_t i = 3; i < *elements; ++i) reader.Skip();
  // A node that does not know its own address says nothing, and one whose name is not
  // known yet is "?".
  if (host.empty() || host == "?") host = asked.host;
  return SlotRange{.first = *first, .last = *last, .master = {std::move(host), *port}};
}

}  // namespace

std::uint16_t SlotOf(std::string_view key) {
  const std::size_t open = key.find('{');
  if (open != std::string_view::npos) {
    const std::size_t close = key.find('}', open + 1);
    if (close != std::string_view::npos && close > open + 1) {
      key = key.substr(open + 1, close - open - 1);
    }
  }
  return Crc16(key) % kSlots;
}

absl::StatusOr<std::vector<SlotRange>> ReadSlots(const RedisReply& reply, const HostPort& asked) {
  if (reply.type() == RedisReply::Type::kError) {
    return absl::UnavailableError(Printable(reply.text()));
  }
  Reader reader(reply);
  const auto count = reader.Array();
  std::vector<SlotRange> ranges;
  for (std::int64_t i = 0; i < count.value_or(0); ++i) {
    auto range = ReadRange(reader, asked);
    if (!range.has_value()) break;
    ranges.push_back(*std::move(range));
  }
  if (!count.has_value() || std::cmp_not_equal(ranges.size(), *count)) {
    return absl::UnavailableError("its answer to CLUSTER SLOTS is not a Cluster's");
  }
  return ranges;
}

std::optional<Redirection> ReadRedirection(std::string_view error, const HostPort& from) {
  using enum Redirection::Kind;
  const bool moved = error.starts_with("MOVED ");
  if (!moved && !error.starts_with("ASK ")) return Redirection{.kind = kTryAgain};
  // MOVED 3999 host:port
  const std::string_view address = error.substr(error.rfind(' ') + 1);
  const std::size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto port = ReadPort(address.substr(colon + 1));
  if (!port.has_value()) return std::nullopt;
  const std::string_view host = address.substr(0, colon);
  return Redirection{.kind = moved ? kMoved : kAsk,
                     .to = {host.empty() || host == "?" ? from.host : std::string(host), *port}};
}

}  // namespace ratelimiter
