#pragma once

#include <sys/inotify.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "ratelimiter/base/log.h"

namespace ratelimiter {

// Tells when a file may have become another one, by inotify.
//
// Every directory that the path leads through is watched for the entry by which
// it leads on, symbolic links included, and so is the file: whatever is written,
// renamed, linked or created again on the way is noticed, and nothing else is.
// A file that is being written is told of when it is closed, never before.
//
// Wait is for one thread; Stop is thread-safe.
class FileWatch {
 public:
  // Watches from now on. What cannot be watched is logged, once.
  FileWatch(const std::string& path, std::shared_ptr<Logger> logger);

  // Waits until it is worth reading the file: it may have been replaced, written,
  // or deleted since the last return, and at first since the construction. False:
  // Stop was called.
  bool Wait();

  // Ends this and every later Wait.
  void Stop();

 private:
  class Descriptor {
   public:
    explicit Descriptor(int number) : number_(number) {}
    ~Descriptor();
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int number() const { return number_; }

   private:
    const int number_;
  };

  // A directory and those of its entries that the path leads through; or the
  // file, and as inotify tells of it: an empty name.
  struct Watched {
    explicit Watched(std::filesystem::path where) : place(std::move(where)) {}
    std::filesystem::path place;
    std::set<std::string> names;
  };

  // What events say of the file, the least first.
  enum class News {
    kNone,
    kGone,    // It is gone, for the moment at least.
    kNewWay,  // A directory or a link came to be that may lead to one.
    kWhole,   // It was closed after writing, or moved into its place whole.
  };

  // Milliseconds; -1: nothing is waited for.
  int UntilSettled() const;
  News ReadEvents();
  News Judge(const inotify_event& event);
  // Watches what the path leads through now, and no more what it led through
  // before. False: it leads to no regular file.
  bool Arm();
  bool FollowPath();
  void Watch(const std::filesystem::path& place, std::uint32_t events, const std::string& name);

  // Constant after construction.
  const std::filesystem::path path_;
  const std::shared_ptr<Logger> logger_;

  // Self-synchronised.
  const Descriptor stop_;
  const Descriptor inotify_;

  // The waiting thread's.
  std::map<int, Watched> watched_;
  // What could not be watched, and why.
  std::map<std::filesystem::path, std::string> unwatched_;
  // When it is time to see whether a file that went away has come back, and to
  // read one that was there already when the way to it came to be, lest it is
  // being written.
  std::optional<std::chrono::steady_clock::time_point> settled_at_;
  bool read_when_settled_ = false;
};

}  // namespace ratelimiter
