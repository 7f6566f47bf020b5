#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "ratelimiter/base/log.h"
#include "ratelimiter/config/limits_file.h"
#include "ratelimiter/limiter/limit_set.h"

namespace ratelimiter {

class FileWatch;

// How the limits came to be what they are.
struct ReloadState {
  // When the limits in force were read.
  std::chrono::system_clock::time_point loaded_at{};
  std::uint64_t succeeded = 0;
  std::uint64_t failed = 0;
  // Why the last reload failed; empty: it did not.
  std::vector<std::string> errors{};
};

// Keeps the limits in force at what the limits file says: reads it again when it
// changes, and when it is told to. A file that is not accepted, or is gone,
// changes nothing: the limits stay, and it is logged, counted and shown, once
// until the file changes again.
//
// A change counts once the file is whole: written and closed, or moved into its
// place. So an editor's rename counts, and the swap of a symbolic link by which
// Kubernetes updates a ConfigMap; half a file does not.
//
// Thread-safe. Files are read on a thread of its own or on the caller's of Reload,
// never on a call's way.
class LimitsReloader {
 public:
  // Makes limits the ones in force. Called by one thread at a time.
  using Apply = std::function<void(const std::shared_ptr<const LimitSet>&)>;

  // `in_force`: what was read, without errors, from the file at `path`. Watches
  // from now on; a change since it was read is noticed too. Where the system has
  // no watch left to give, that is logged, and Reload is the only way.
  LimitsReloader(std::string path, LimitsFile in_force, Apply apply,
                 std::shared_ptr<Logger> logger);
  ~LimitsReloader();
  LimitsReloader(const LimitsReloader&) = delete;
  LimitsReloader& operator=(const LimitsReloader&) = delete;

  // Reads the file now, changed or not, and says what came of it. One at a time:
  // others wait.
  ReloadState Reload();

  // Never waits for a file to be read.
  ReloadState state() const;

 private:
  void ReloadIfChanged();
  // Precondition: reading_ is held.
  void Take(LimitsFile file, std::chrono::system_clock::time_point read_at);

  // Constant after construction.
  const std::string path_;
  const Apply apply_;
  const std::shared_ptr<Logger> logger_;

  std::mutex reading_;
  // Guarded by reading_. What was read last is the limits in force or errors.
  std::shared_ptr<const LimitSet> in_force_;
  std::shared_ptr<const LimitSet> replaced_;
  LimitsFile last_;

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  ReloadState state_;

  const std::unique_ptr<FileWatch> watch_;
  std::jthread thread_;
};

}  // namespace ratelimiter
