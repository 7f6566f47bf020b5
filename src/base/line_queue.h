#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <thread>

namespace ratelimiter {

// Writes lines to a file descriptor from its own thread, so that callers never wait for the
// reader. Rejects lines if the queue is full. Lines that cannot be written, as on a full disk,
// are lost and counted; the next one still begins a line.
//
// Thread-safe.
class LineQueue {
 public:
  // The maximum of queued bytes; as many again may be in a write. Bulk lines may not use the
  // last quarter.
  static constexpr std::size_t kMaxBytes = std::size_t{1} << 20U;
  static constexpr std::size_t kMaxBulkBytes = kMaxBytes / 4 * 3;

  // Lost lines are counted by kind, from 0 to `kinds` - 1.
  explicit LineQueue(int descriptor, std::size_t kinds = 1);
  // Writes what is queued; gives up after a second if nobody reads.
  ~LineQueue();
  LineQueue(const LineQueue&) = delete;
  LineQueue& operator=(const LineQueue&) = delete;

  // Queues a whole line. `bulk`: one of very many, which are batched for a few milliseconds.
  // False: the queue is full.
  bool Push(std::string_view line, bool bulk, std::size_t kind = 0);

  // The number of queued lines of a kind that could not be written.
  std::uint64_t lost(std::size_t kind) const;

  // Waits, up to a second, until every line queued before is written or lost. False: timeout.
  bool Flush();

 private:
  struct State;

  // Shared with the thread, which outlives this object if a write blocks.
  const std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace ratelimiter
