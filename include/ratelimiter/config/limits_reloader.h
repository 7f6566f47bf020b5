#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ratelimiter/base/log.h"
#include "ratelimiter/base/mutex.h"
#include "ratelimiter/config/limits_file.h"
#include "ratelimiter/limiter/limit_set.h"

namespace ratelimiter {

class FileWatch;

// The outcome of reloads so far.
struct ReloadState {
  // When the active limits were read.
  std::chrono::system_clock::time_point loaded_at{};
  std::uint64_t succeeded = 0;
  std::uint64_t failed = 0;
  // Why the last reload failed; empty if it did not.
  std::vector<std::string> errors{};
};

// Keeps the active limits equal to the limits file: reads it when it changes, and on Reload. A
// file that is rejected or missing changes nothing; this is logged, counted and shown once until
// the file changes again.
//
// A change counts once the file is complete: written and closed, or moved into place. So an
// editor's rename counts, and the swap of a symbolic link by which Kubernetes updates a
// ConfigMap; a half-written file does not.
//
// Thread-safe. Reads files on its own thread or on the caller's of Reload.
class LimitsReloader {
 public:
  // Activates limits. Called by one thread at a time.
  using Apply = std::function<void(const std::shared_ptr<const LimitSet>&)>;

  // `in_force` was read, without errors, from the file at `path`. Watches the file from now on,
  // and notices a change since it was read. If the system has no watch left, this is logged, and
  // only Reload reads the file.
  LimitsReloader(std::string path, LimitsFile in_force, Apply apply,
                 std::shared_ptr<Logger> logger);
  ~LimitsReloader();
  LimitsReloader(const LimitsReloader&) = delete;
  LimitsReloader& operator=(const LimitsReloader&) = delete;

  // Reads the file now, changed or not, and returns the outcome. Concurrent calls queue.
  ReloadState Reload() EXCLUDES(reading_, mutex_);

  // Never waits for a file to be read.
  ReloadState state() const EXCLUDES(mutex_);

 private:
  void ReloadIfChanged() EXCLUDES(reading_, mutex_);
  void Take(LimitsFile file, std::chrono::system_clock::time_point read_at) REQUIRES(reading_)
      EXCLUDES(mutex_);

  // Constant after construction.
  const std::string path_;
  const Apply apply_;
  const std::shared_ptr<Logger> logger_;

  Mutex reading_;
  std::shared_ptr<const LimitSet> in_force_ GUARDED_BY(reading_);
  std::shared_ptr<const LimitSet> replaced_ GUARDED_BY(reading_);
  LimitsFile last_ GUARDED_BY(reading_);  // As last read, accepted or not.

  mutable Mutex mutex_;
  ReloadState state_ GUARDED_BY(mutex_);

  const std::unique_ptr<FileWatch> watch_;
  // Not a PeriodicWorker: it waits for events of the file.
  std::jthread thread_;
};

}  // namespace ratelimiter
