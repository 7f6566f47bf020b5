#include "line_queue.h"

#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace ratelimiter {
namespace {

constexpr std::chrono::seconds kPatience{1};
// A wake-up and a write for each line of many would cost more than the lines.
constexpr std::chrono::milliseconds kGather{5};

// How many of the bytes were written.
std::size_t WriteTo(int descriptor, std::string_view text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t written = write(descriptor, text.data() + done, text.size() - done);
    if (written >= 0) {
      done += static_cast<std::size_t>(written);
    } else if (errno == EAGAIN) {  // Another process has made it non-blocking.
      pollfd writable{.fd = descriptor, .events = POLLOUT, .revents = 0};
      poll(&writable, 1, -1);
    } else if (errno != EINTR) {
      break;  // There is no room, or nobody to read it.
    }
  }
  return done;
}

struct Line {
  std::size_t size;
  std::size_t kind;
};

// Lines, one behind the other.
struct Batch {
  std::string text;
  std::vector<Line> lines;
};

}  // namespace

struct LineQueue::State {
  State(int to, std::size_t kinds) : descriptor(to), lost(kinds) {}

  void Run() {
    Batch batch;
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return stopped || !waiting.text.empty(); });
      if (waiting.text.empty()) break;
      changed.wait_for(lock, kGather, [this] { return stopped || urgent; });
      std::swap(batch, waiting);
      urgent = false;
      lock.unlock();
      Write(batch);
      lock.lock();
      done += batch.text.size();
      batch.text.clear();
      batch.lines.clear();
      progress.notify_all();
    }
    ended = true;
    progress.notify_all();
  }

  // Of the thread.
  void Write(const Batch& batch) {
    // What is left of a line is ended, so that the next one is whole.
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
  bool torn = false;  // Of the thread: what was written last is a part of a line.

  std::mutex mutex;
  std::condition_variable changed;   // For the thread.
  std::condition_variable progress;  // Of the thread.
  // Guarded by mutex.
  Batch waiting;
  std::uint64_t pushed = 0;  // Bytes, ever.
  std::uint64_t done = 0;    // Of these, written or lost.
  bool urgent = false;       // What waits is not bulk alone.
  bool stopped = false;
  bool ended = false;
};

LineQueue::LineQueue(int descriptor, std::size_t kinds)
    : state_(std::make_shared<State>(descriptor, kinds)),
      thread_([state = state_] { state->Run(); }) {}

LineQueue::~LineQueue() {
  bool ended = false;
  {
    std::unique_lock lock(state_->mutex);
    state_->stopped = true;
    state_->changed.notify_one();
    ended = state_->progress.wait_for(lock, kPatience, [this] { return state_->ended; });
  }
  if (ended) {
    thread_.join();
  } else {
    thread_.detach();
  }
}

bool LineQueue::Push(std::string_view line, bool bulk, std::size_t kind) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  std::string& text = state.waiting.text;
  const bool idle = text.empty();
  if (text.size() + line.size() > (bulk ? kMaxBulkBytes : kMaxBytes)) return false;
  text.append(line);
  state.waiting.lines.push_back({.size = line.size(), .kind = kind});
  state.pushed += line.size();
  const bool becomes_urgent = !bulk && !state.urgent;
  state.urgent = state.urgent || !bulk;
  if (idle || becomes_urgent) state.changed.notify_one();
  return true;
}

std::uint64_t LineQueue::lost(std::size_t kind) const {
  return state_->lost[kind].load(std::memory_order_relaxed);
}

bool LineQueue::Flush() {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  const std::uint64_t until = state.pushed;
  state.urgent = state.urgent || !state.waiting.text.empty();
  state.changed.notify_one();
  return state.progress.wait_for(lock, kPatience, [&] { return state.done >= until; });
}

}  // namespace ratelimiter
