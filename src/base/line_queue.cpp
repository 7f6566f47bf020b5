#include "line_queue.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>

namespace ratelimiter {
namespace {

constexpr std::chrono::seconds kPatience{1};
// A wake-up and a write for each line of many would cost more than the lines.
constexpr std::chrono::milliseconds kGather{5};

void WriteAll(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(descriptor, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {  // Another process has made it non-blocking.
      pollfd writable{.fd = descriptor, .events = POLLOUT, .revents = 0};
      poll(&writable, 1, -1);
    } else if (errno != EINTR) {
      return;  // Nobody is there to read it.
    }
  }
}

}  // namespace

struct LineQueue::State {
  explicit State(int to) : descriptor(to) {}

  void Run() {
    std::string batch;
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return stopped || !waiting.empty(); });
      if (waiting.empty()) break;
      changed.wait_for(lock, kGather, [this] { return stopped || urgent; });
      batch.swap(waiting);
      urgent = false;
      lock.unlock();
      WriteAll(descriptor, batch);
      lock.lock();
      written += batch.size();
      batch.clear();
      progress.notify_all();
    }
    ended = true;
    progress.notify_all();
  }

  const int descriptor;

  std::mutex mutex;
  std::condition_variable changed;   // For the thread.
  std::condition_variable progress;  // Of the thread.
  // Guarded by mutex.
  std::string waiting;
  std::uint64_t pushed = 0;   // Bytes, ever.
  std::uint64_t written = 0;  // Of these.
  bool urgent = false;        // What waits is not bulk alone.
  bool stopped = false;
  bool ended = false;
};

LineQueue::LineQueue(int descriptor)
    : state_(std::make_shared<State>(descriptor)), thread_([state = state_] { state->Run(); }) {}

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

bool LineQueue::Push(std::string_view line, bool bulk) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  const bool idle = state.waiting.empty();
  if (state.waiting.size() + line.size() > (bulk ? kMaxBulkBytes : kMaxBytes)) return false;
  state.waiting.append(line);
  state.pushed += line.size();
  const bool becomes_urgent = !bulk && !state.urgent;
  state.urgent = state.urgent || !bulk;
  if (idle || becomes_urgent) state.changed.notify_one();
  return true;
}

bool LineQueue::Flush() {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  const std::uint64_t until = state.pushed;
  state.urgent = state.urgent || !state.waiting.empty();
  state.changed.notify_one();
  return state.progress.wait_for(lock, kPatience, [&] { return state.written >= until; });
}

}  // namespace ratelimiter
