#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <thread>

namespace ratelimiter {

// Writes lines to a file descriptor from a thread of its own: who has a line to write
// does not wait for whoever reads it. What has no room is refused.
//
// Thread-safe.
class LineQueue {
 public:
  // Bytes that wait at most; as many again may be on their way out. The last quarter
  // is not for bulk.
  static constexpr std::size_t kMaxBytes = std::size_t{1} << 20U;
  static constexpr std::size_t kMaxBulkBytes = kMaxBytes / 4 * 3;

  explicit LineQueue(int descriptor);
  // Writes what waits; gives up after a second where nobody reads.
  ~LineQueue();
  LineQueue(const LineQueue&) = delete;
  LineQueue& operator=(const LineQueue&) = delete;

  // Takes a whole line. `bulk`: one of very many, which are gathered for a few
  // milliseconds. False: there is no room.
  bool Push(std::string_view line, bool bulk);

  // Whether all that was pushed before is written, within a second.
  bool Flush();

 private:
  struct State;

  // Shared with the thread, which outlives this where it hangs in a write.
  const std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace ratelimiter
