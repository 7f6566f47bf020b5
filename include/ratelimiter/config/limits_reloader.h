#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <spdlog/logger.h>

#include "ratelimiter/limiter/limit_set.h"

namespace ratelimiter {

// How the limits came to be what they are.
struct ReloadState {
  // When the limits in force were read.
  std::chrono::system_clock::time_point loaded_at;
  std::uint64_t succeeded = 0;
  std::uint64_t failed = 0;
  // Why the last reload failed; empty: it did not.
  std::vector<std::string> errors;
};

// Keeps the limits in force at what the limits file says: reads it again when it
// changes, and when it is told to. A file that is not accepted changes nothing:
// the limits stay, and it is logged, counted and shown.
//
// The file's folder is watched, and a change counts once the file is whole:
// written and closed, or moved into its place. So an editor's rename counts, and
// the swap of a symbolic link by which Kubernetes updates a ConfigMap.
//
// Thread-safe.
class LimitsReloader {
 public:
  // Makes limits the ones in force.
  using Apply = std::function<void(std::shared_ptr<const LimitSet>)>;

  // `path`: the file that the limits in force were read from. Watches from now
  // on, on a thread of its own; where the system has no watch left to give it is
  // logged, and Reload is the only way.
  LimitsReloader(std::string path, Apply apply, std::shared_ptr<spdlog::logger> logger);
  ~LimitsReloader();
  LimitsReloader(const LimitsReloader&) = delete;
  LimitsReloader& operator=(const LimitsReloader&) = delete;

  // Reads the file now, and says what came of it. One at a time: others wait.
  ReloadState Reload();

  ReloadState state() const;
};

}  // namespace ratelimiter
