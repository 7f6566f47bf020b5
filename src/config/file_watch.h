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

// Reports when a file may have changed, by inotify.
//
// Watches the file, and in every directory on its path, symbolic links included, the entry that
// leads to it. So it notices whatever is written, renamed, linked or recreated on the path, and
// nothing else. A file that is being written is reported when it is closed.
//
// Call Wait from one thread only; Stop is thread-safe.
class FileWatch {
 public:
  // Watches from now on. Logs once what cannot be watched.
  FileWatch(const std::string& path, std::shared_ptr<Logger> logger);

  // Waits until the file may have been replaced, written or deleted since the last return, or
  // since construction. False: Stop was called.
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

  // A directory and its entries on the path; or the file, with the empty name that inotify
  // reports for it.
  struct Watched {
    explicit Watched(std::filesystem::path where) : place(std::move(where)) {}
    std::filesystem::path place;
    std::set<std::string> names;
  };

  // What events mean for the file, in increasing order of importance.
  enum class News {
    kNone,
    kGone,    // It is gone, perhaps for a moment.
    kNewWay,  // A directory or link appeared that may lead to it.
    kWhole,   // It was closed after writing, or moved into place.
  };

  // Milliseconds until settled_at_; -1 if that is not set.
  int UntilSettled() const;
  News ReadEvents();
  News Judge(const inotify_event& event);
  // Replaces the watches by those of the current path. False: no regular file is there.
  bool Arm();
  bool FollowPath();
  void Watch(const std::filesystem::path& place, std::uint32_t events, const std::string& name);

  // Constant after construction.
  const std::filesystem::path path_;
  const std::shared_ptr<Logger> logger_;

  // Self-synchronised.
  const Descriptor stop_;
  const Descriptor inotify_;

  // Used by the waiting thread only.
  std::map<int, Watched> watched_;
  // What could not be watched, and why.
  std::map<std::filesystem::path, std::string> unwatched_;
  // When to check whether a file that disappeared is back, and to read one that was there when
  // the path to it appeared: it may still be being written.
  std::optional<std::chrono::steady_clock::time_point> settled_at_;
  bool read_when_settled_ = false;
};

}  // namespace ratelimiter
