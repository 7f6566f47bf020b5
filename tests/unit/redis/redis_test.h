#pragma once

#include <chrono>
#include <concepts>
#include <csignal>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <gtest/gtest.h>
#include <prometheus/metric_family.h>

#include "ratelimiter/base/clock.h"
#include "ratelimiter/metrics/metrics.h"
#include "support/redis_server.h"

namespace ratelimiter::testing {

// A peer that has gone is told by write()'s error, as in the daemon.
inline const bool kIgnoresSigpipe = std::signal(SIGPIPE, SIG_IGN) != SIG_ERR;

// Far above what anything takes that does not hang.
inline constexpr std::chrono::seconds kLong{10};

// A bound that is meant to be met, and what a busy machine may add to it: less than the
// 10 s that pass where there is no bound.
inline constexpr std::chrono::milliseconds kShort{50};
inline constexpr std::chrono::seconds kMargin{8};

inline Deadline In(std::chrono::steady_clock::duration time) {
  return std::chrono::steady_clock::now() + time;
}

std::chrono::steady_clock::duration Elapsed(const std::invocable auto& action) {
  const auto start = std::chrono::steady_clock::now();
  action();
  return std::chrono::steady_clock::now() - start;
}

inline std::string Text(const RedisReply& reply) { return std::string(reply.text()); }

// The round trips that were observed.
inline std::uint64_t ObservedLatencies(const Metrics& metrics) {
  for (const auto& collectable : metrics.collectables()) {
    for (const auto& family : collectable->Collect()) {
      if (family.name == "redis_latency_seconds") return family.metric.at(0).histogram.sample_count;
    }
  }
  return 0;
}

// A suite with a real redis-server of its own, empty before every test.
class RedisTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = std::make_unique<RedisServerProcess>(); }
  static void TearDownTestSuite() { server_.reset(); }
  static RedisServerProcess& server() { return *server_; }

  void SetUp() override {
    server().Run({"FLUSHALL"});
    server().Run({"SCRIPT", "FLUSH"});
    server().Run({"CONFIG", "RESETSTAT"});
  }

  // Connections that came since the test began.
  static int Connections() { return Number("stats", "total_connections_received:"); }
  // Runs of `command`, in lower case, since the test began.
  static int Runs(const std::string& command) {
    return Number("commandstats", "cmdstat_" + command + ":calls=");
  }

  // Has Redis close all connections but the one that asks for it.
  static void CloseAll() { server().Run({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"}); }

 private:
  // The number behind `label` in a section of INFO; 0 if it is not there.
  static int Number(std::string_view section, const std::string& label) {
    const std::string info = Text(server().Run({"INFO", section}));
    const std::size_t at = info.find(label);
    return at == std::string::npos ? 0 : std::stoi(info.substr(at + label.size()));
  }

  static inline std::unique_ptr<RedisServerProcess> server_;
};

}  // namespace ratelimiter::testing
