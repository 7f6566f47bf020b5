#pragma once

#include <memory>

#include <absl/functional/function_ref.h>

#include "ratelimiter/config/settings.h"
#include "ratelimiter/limiter/token_bucket_store.h"
#include "ratelimiter/metrics/metrics.h"

namespace ratelimiter {

using MakeBenchStore = absl::FunctionRef<std::unique_ptr<TokenBucketStore>(const Settings& settings,
                                                                           Metrics& metrics)>;

// Runs the daemon's server and its metrics over another store, by the daemon's
// settings, until a signal ends the process. Returns the exit code of a start
// that failed.
int RunBenchServer(int argc, char** argv, MakeBenchStore make_store);

}  // namespace ratelimiter
