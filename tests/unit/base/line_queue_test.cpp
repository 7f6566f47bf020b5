#include "base/line_queue.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "support/eventually.h"
#include "support/threads.h"

namespace ratelimiter {
namespace {

// A pipe, which takes little while nobody reads it.
class Pipe {
 public:
  Pipe() {
    if (pipe2(ends_.data(), O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  }
  ~Pipe() {
    CloseWriter();
    close(ends_[0]);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  int writer() const { return ends_[1]; }
  void CloseWriter() {
    if (ends_[1] >= 0) close(ends_[1]);
    ends_[1] = -1;
  }
  // All that comes until whoever writes has ended.
  std::string ReadToEnd() const {
    std::string text;
    std::array<char, 65'536> part{};
    for (ssize_t size = 1; size > 0;) {
      size = read(ends_[0], part.data(), part.size());
      text.append(part.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    }
    return text;
  }

 private:
  std::array<int, 2> ends_{};
};

std::size_t LinesIn(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count(text, '\n'));
}

// A busy machine may take longer than one Flush() waits.
bool Flushes(LineQueue& queue) {
  return testing::Eventually([&] { return queue.Flush(); });
}

TEST(LineQueueTest, WritesLinesInTheirOrder) {
  Pipe pipe;
  {
    LineQueue queue(pipe.writer());
    EXPECT_TRUE(queue.Push("one\n", true));
    EXPECT_TRUE(queue.Push("two\n", false));
    EXPECT_TRUE(Flushes(queue));
    EXPECT_TRUE(queue.Push("three\n", true));
  }
  pipe.CloseWriter();
  EXPECT_EQ(pipe.ReadToEnd(), "one\ntwo\nthree\n");
}

TEST(LineQueueTest, RefusesWhatHasNoRoomWhileNobodyReads) {
  Pipe pipe;
  const std::string line = std::string(999, 'x') + '\n';
  std::size_t taken = 0;
  std::string read;
  {
    LineQueue queue(pipe.writer());
    while (queue.Push(line, true)) ++taken;
    EXPECT_FALSE(queue.Flush());
    while (queue.Push(line, true)) ++taken;
    EXPECT_GE(taken * line.size(), LineQueue::kMaxBulkBytes);
    EXPECT_LE(taken * line.size(), 2 * LineQueue::kMaxBytes + 65'536);
    // Others still find room.
    std::size_t others = 0;
    while (queue.Push(line, false)) ++others;
    EXPECT_GE(others, (LineQueue::kMaxBytes - LineQueue::kMaxBulkBytes) / line.size());
    taken += others;

    const std::jthread reader([&] { read = pipe.ReadToEnd(); });
    EXPECT_TRUE(Flushes(queue));
    EXPECT_TRUE(queue.Push("last\n", true));
    EXPECT_TRUE(Flushes(queue));
    pipe.CloseWriter();
  }
  EXPECT_EQ(LinesIn(read), taken + 1);
  EXPECT_TRUE(read.ends_with("last\n"));
}

TEST(LineQueueTest, EndsThoughNobodyReads) {
  // Never closed, for its thread hangs in a write for as long as the process lives.
  static auto* const pipe = new Pipe;
  LineQueue queue(pipe->writer());
  while (queue.Push("a line that nobody reads\n", true)) continue;
}

// What files may hold at most, as a full disk does.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : on_excess_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, on_excess_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*on_excess_)(int);
};

TEST(LineQueueTest, CountsWhatCannotBeWrittenAndEndsTheTornLine) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
  LineQueue queue(fileno(file.get()), 2);
  {
    const FileSizeLimit limit(25);
    for (std::size_t i = 0; i < 4; ++i) queue.Push("0123456789\n", false, i % 2);
    EXPECT_TRUE(Flushes(queue));
    EXPECT_EQ(queue.lost(0), 1U);
    EXPECT_EQ(queue.lost(1), 1U);
    EXPECT_TRUE(queue.Push("as little room\n", false, 1));
    EXPECT_TRUE(Flushes(queue));
    EXPECT_EQ(queue.lost(1), 2U);
  }
  EXPECT_TRUE(queue.Push("room again\n", false));
  EXPECT_TRUE(Flushes(queue));
  EXPECT_EQ(queue.lost(0), 1U);

  std::array<char, 100> text{};
  ASSERT_EQ(std::fseek(file.get(), 0, SEEK_SET), 0);
  const std::size_t size = std::fread(text.data(), 1, text.size(), file.get());
  EXPECT_EQ(std::string(text.data(), size), "0123456789\n0123456789\n012\nroom again\n");
}

TEST(LineQueueTest, ManyMayPushAtOnce) {
  constexpr std::size_t kThreads = 8;
  constexpr std::size_t kLines = 1'000;
  Pipe pipe;
  std::string read;
  std::atomic<std::size_t> taken = 0;
  {
    const std::jthread reader([&] { read = pipe.ReadToEnd(); });
    {
      LineQueue queue(pipe.writer());
      testing::OnThreads(kThreads, [&](std::size_t thread) {
        const std::string line = std::string(50, static_cast<char>('a' + thread)) + '\n';
        for (std::size_t i = 0; i < kLines; ++i) taken += queue.Push(line, i % 2 == 0) ? 1U : 0U;
      });
    }
    pipe.CloseWriter();
  }
  EXPECT_EQ(taken, kThreads * kLines);
  EXPECT_EQ(LinesIn(read), taken);
  for (std::size_t at = 0; at < read.size(); at += 51) {
    ASSERT_EQ(read.substr(at, 51), std::string(50, read[at]) + '\n');
  }
}

}  // namespace
}  // namespace ratelimiter
