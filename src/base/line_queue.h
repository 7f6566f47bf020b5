#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <thread>

namespace ratelimiter {

// Writes lines to a file descriptor from a thread of its own: who has a line to write
// does not wait for whoever reads it. What has no room is refused. What cannot be written,
// as on a full disk, is lost and counted, and the line behind it begins a line all the same.
//
// Thread-safe.
class LineQueue {
 public:
  // Bytes that wait at most; as many again may be on their way out. The last quarter
  // is not for bulk.
  static constexpr std::size_t kMaxBytes = std::size_t{1} << 20U;
  static constexpr std::size_t kMaxBulkBytes = kMaxBytes / 4 * 3;

  // Lines are of so many kinds, for those that are lost to be counted by.
  explicit LineQueue(int descriptor, std::size_t kinds = 1);
  // Writes what waits; gives up after a second where nobody reads.
  ~LineQueue();
  LineQueue(const LineQueue&) = delete;
  LineQueue& operator=(const LineQueue&) = delete;

  // Takes a whole line. `bulk`: one of very many, which are gathered for a few
  // milliseconds. False: there is no room.
  bool Push(std::string_view line, bool bulk, std::size_t kind = 0);

  // Lines of a kind that were taken and could not be written, ever.
  std::uint64_t lost(std::size_t kind) const;

  // Whether all that was pushed before is written, or lost, within a second.
  bool Flush();

 private:
  struct State;

  // Shared with the thread, which outlives this where it hangs in a write.
  const std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace ratelimiter
