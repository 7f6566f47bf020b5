#include "line_queue.h"

#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ratelimiter/base/mutex.h"

namespace ratelimiter {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds kPatience{1};
// Batches bulk lines: one wake-up and one write per line would cost more than the lines.
constexpr std::chrono::milliseconds kGather{5};

// Returns the number of bytes written.
std::size_t WriteTo(int descriptor, std::string_view text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t written = write(descriptor, text.data() + done, text.size() - done);
    if (written >= 0) {
      done += static_cast<std::size_t>(written);
    } else if (errno == EAGAIN) {  // Another process made it non-blocking.
      pollfd writable{.fd = descriptor, .events = POLLOUT, .revents = 0};
      poll(&writable, 1, -1);
    } else if (errno != EINTR) {
      break;  // No space left, or no reader.
    }
  }
  return done;
}

struct Line {
  std::size_t size;
  std::size_t kind;
};

// Consecutive lines.
struct Batch {
  std::string text;
  std::vector<Line> lines;
};

}  // namespace

struct LineQueue::State {
  State(int to, std::size_t kinds) : descriptor(to), lost(kinds) {}

  void Run() {
    Batch batch;
    MutexLock lock(mutex);
    while (true) {
      while (!stopped && waiting.text.empty()) changed.Wait(mutex);
      if (waiting.text.empty()) break;
      const auto gathered = steady_clock::now() + kGather;
      while (!stopped && !urgent && changed.WaitUntil(mutex, gathered)) {
      }
      std::swap(batch, waiting);
      urgent = false;
      lock.Unlock();
      Write(batch);
      lock.Lock();
      done += batch.text.size();
      batch.text.clear();
      batch.lines.clear();
      progress.NotifyAll();
    }
    ended = true;
    progress.NotifyAll();
  }

  // Called by the thread.
  void Write(const Batch& batch) {
    // Ends a partly written line, so that the next one is whole.
    if (torn) torn = WriteTo(descriptor, "\n") == 0;
    const std::size_t written = torn ? 0 : WriteTo(descriptor, batch.text);
    if (written == batch.text.size()) return;
    torn = torn || (written > 0 && batch.text[written - 1] != '\n');
    std::size_t end = 0;
    for (const Line& line : batch.lines) {
      end += line.size;
      if (end > written) lost[line.kind].fetch_add(1, std::memory_order_relaxed);
    }
  }

  const int descriptor;
  std::vector<std::atomic<std::uint64_t>> lost;  // By kind.
  bool torn = false;  // Used by the thread: the last line was partly written.

  Mutex mutex;
  CondVar changed;   // Signals the thread.
  CondVar progress;  // Signaled by the thread.
  Batch waiting GUARDED_BY(mutex);
  std::uint64_t pushed GUARDED_BY(mutex) = 0;  // Bytes so far.
  std::uint64_t done GUARDED_BY(mutex) = 0;    // Of these, written or lost.
  bool urgent GUARDED_BY(mutex) = false;       // A line that is not bulk waits.
  bool stopped GUARDED_BY(mutex) = false;
  bool ended GUARDED_BY(mutex) = false;
};

LineQueue::LineQueue(int descriptor, std::size_t kinds)
    : state_(std::make_shared<State>(descriptor, kinds)),
      thread_([state = state_] { state->Run(); }) {}

LineQueue::~LineQueue() {
  bool ended = false;
  {
    State& state = *state_;
    const auto given_up = steady_clock::now() + kPatience;
    const MutexLock lock(state.mutex);
    state.stopped = true;
    state.changed.NotifyOne();
    while (!state.ended && state.progress.WaitUntil(state.mutex, given_up)) {
    }
    ended = state.ended;
  }
  if (ended) {
    thread_.join();
  } else {
    thread_.detach();
  }
}

bool LineQueue::Push(std::string_view line, bool bulk, std::size_t kind) {
  State& state = *state_;
  const MutexLock lock(state.mutex);
  std::string& text = state.waiting.text;
  const bool idle = text.empty();
  if (text.size() + line.size() > (bulk ? kMaxBulkBytes : kMaxBytes)) return false;
  text.append(line);
  state.waiting.lines.push_back({.size = line.size(), .kind = kind});
  state.pushed += line.size();
  const bool becomes_urgent = !bulk && !state.urgent;
  state.urgent = state.urgent || !bulk;
  if (idle || becomes_urgent) state.changed.NotifyOne();
  return true;
}

std::uint64_t LineQueue::lost(std::size_t kind) const {
  return state_->lost[kind].load(std::memory_order_relaxed);
}

bool LineQueue::Flush() {
  State& state = *state_;
  const auto given_up = steady_clock::now() + kPatience;
  const MutexLock lock(state.mutex);
  const std::uint64_t until = state.pushed;
  state.urgent = state.urgent || !state.waiting.text.empty();
  state.changed.NotifyOne();
  while (state.done < until && state.progress.WaitUntil(state.mutex, given_up)) {
  }
  return state.done >= until;
}

}  // namespace ratelimiter
