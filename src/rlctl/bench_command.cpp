#include "bench_command.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <nlohmann/json.hpp>

#include "daemon.h"
#include "limiter/limiter.grpc.pb.h"
#include "load.h"
#include "output.h"
#include "ratelimiter/base/duration.h"
#include "ratelimiter/config/settings.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using Json = nlohmann::ordered_json;
using Nanoseconds = std::chrono::nanoseconds;
using Channels = std::vector<std::shared_ptr<grpc::Channel>>;

// A client that is this much behind did not keep up.
constexpr Nanoseconds kLate = 10ms;

struct BenchArguments {
  DaemonArguments daemon;
  std::uint32_t connections = 4;
  RequestArguments request;  // Its cost alone.
  LoadOptions load;
};

// Ctrl-C, waited for instead of handled. Threads started later inherit that.
class Interrupt {
 public:
  Interrupt() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  }

  // Waits for it, but no longer than a moment. From then on it ends the process.
  bool Came() {
    constexpr timespec kMoment = {.tv_sec = 0, .tv_nsec = 50'000'000};
    if (sigtimedwait(&signals_, nullptr, &kMoment) != SIGINT) return false;
    pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
    return true;
  }

 private:
  sigset_t signals_{};
};

// Connections that are made. None: the daemon does not answer, or a file for TLS cannot be
// used, and that was told.
Channels Connect(const BenchArguments& arguments) {
  Channels channels;
  grpc::ChannelArguments once;
  // What gRPC sends again by itself would not be counted, and being able to costs time.
  once.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  for (std::uint32_t i = 0; i < arguments.connections; ++i) {
    const auto channel = channels.emplace_back(OpenChannel(arguments.daemon, once));
    if (channel == nullptr) return {};
    // A look takes nothing and is not counted. What it says does not matter.
    limiter::AllowRequestRequest look;
    look.set_user_id("rlctl");
    look.set_cost(0);
    limiter::AllowRequestResponse response;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + arguments.daemon.answer.timeout);
    // Once one was made, another that fails is tried again: gRPC before 1.61 may take one that is
    // being made for one that failed (docs/internals/decisions/16-testing.md).
    context.set_wait_for_ready(i > 0);
    const grpc::Status status =
        limiter::RateLimiter::NewStub(channel)->AllowRequest(&context, look, &response);
    if (!status.ok() && channel->GetState(false) != GRPC_CHANNEL_READY) {
      TellError(DescribeFailure(status, arguments.daemon, *channel));
      return {};
    }
  }
  return channels;
}

double Seconds(Nanoseconds duration) { return std::chrono::duration<double>(duration).count(); }

double PerSecond(std::uint64_t count, Nanoseconds duration) {
  return static_cast<double>(count) / Seconds(duration);
}

struct Quantile {
  const char* key;
  const char* heading;
  double fraction;
};
constexpr std::array<Quantile, 4> kQuantiles = {
    {{"p50", "P50", 0.5}, {"p90", "P90", 0.9}, {"p99", "P99", 0.99}, {"p999", "P99.9", 0.999}}};

// A range of latencies, and how many calls were in it.
struct HistogramRow {
  Nanoseconds from;
  Nanoseconds to;
  std::uint64_t calls;
};

// From the fastest call to the slowest, six rows for each factor of ten.
std::vector<HistogramRow> RowsOf(const LatencyHistogram& latency) {
  constexpr std::array kSteps = {10, 15, 20, 30, 50, 70};
  std::vector<HistogramRow> rows;
  std::uint64_t below = 0;
  Nanoseconds from = 0us;
  for (Nanoseconds unit = 100ns; below < latency.count(); unit *= 10) {
    for (const int step : kSteps) {
      const Nanoseconds to = unit * step;
      const std::uint64_t below_to = latency.CountBelow(to);
      if (below_to > 0 && below < latency.count()) {
        rows.push_back({.from = from, .to = to, .calls = below_to - below});
      }
      below = below_to;
      from = to;
    }
  }
  return rows;
}

double ToTenths(double value) { return std::round(value * 10) / 10; }

double Microseconds(Nanoseconds latency) {
  return ToTenths(std::chrono::duration<double, std::micro>(latency).count());
}

Json ToJson(const LoadResult& result) {
  Json json = {
      {"calls", result.calls},
      {"accepted", result.accepted},
      {"calls_per_second", ToTenths(PerSecond(result.calls_in_time, result.duration))},
      {"decisions_per_second", ToTenths(PerSecond(result.decisions_in_time, result.duration))},
      {"allowed", result.allowed},
      {"denied", result.denied},
      {"errors", Json::object()},
      {"duration_seconds", Seconds(result.duration)}};
  for (std::size_t code = 0; code < result.errors.size(); ++code) {
    if (result.errors[code] == 0) continue;
    json["errors"][NameOf(static_cast<grpc::StatusCode>(code))] = result.errors[code];
  }
  Json& latency = json["latency_us"];
  latency["mean"] = Microseconds(result.latency.mean());
  for (const Quantile& quantile : kQuantiles) {
    latency[quantile.key] = Microseconds(result.latency.Quantile(quantile.fraction));
  }
  latency["max"] = Microseconds(result.latency.max());
  json["max_send_lag_us"] = Microseconds(result.max_send_lag);
  json["histogram"] = Json::array();
  for (const HistogramRow& row : RowsOf(result.latency)) {
    json["histogram"].push_back({{"from_us", Microseconds(row.from)},
                                 {"to_us", Microseconds(row.to)},
                                 {"calls", row.calls}});
  }
  return json;
}

void PrintOutcomes(const LoadResult& result) {
  std::uint64_t all = result.allowed + result.denied;
  for (const std::uint64_t count : result.errors) all += count;
  Table table({"OUTCOME", "REQUESTS", "SHARE"});
  const auto add = [&](std::string outcome, std::uint64_t count, Style style) {
    const double percent = 100 * static_cast<double>(count) / static_cast<double>(all);
    table.Add({std::move(outcome), std::to_string(count), fmt::format("{:.2f}%", percent)}, style);
  };
  add("allowed", result.allowed, Style::kAllowed);
  add("denied", result.denied, Style::kRefused);
  for (std::size_t code = 0; code < result.errors.size(); ++code) {
    if (result.errors[code] == 0) continue;
    add(NameOf(static_cast<grpc::StatusCode>(code)), result.errors[code], Style::kRefused);
  }
  table.Print();
}

void PrintLatency(const LatencyHistogram& latency) {
  Table quantiles({"LATENCY", "MEAN", "P50", "P90", "P99", "P99.9", "MAX"});
  std::vector<std::string> cells = {"accepted", DescribeLatency(latency.mean())};
  for (const Quantile& quantile : kQuantiles) {
    cells.push_back(DescribeLatency(latency.Quantile(quantile.fraction)));
  }
  cells.push_back(DescribeLatency(latency.max()));
  quantiles.Add(std::move(cells));
  quantiles.Print();
  PrintLine("");

  const std::vector<HistogramRow> rows = RowsOf(latency);
  const std::uint64_t most = std::ranges::max(rows, {}, &HistogramRow::calls).calls;
  Table histogram({"BELOW", "CALLS", "HISTOGRAM"});
  for (const HistogramRow& row : rows) {
    constexpr std::uint64_t kWidth = 50;
    // Rounded up: one call shows.
    const std::uint64_t width = ((row.calls * kWidth) + most - 1) / most;
    histogram.Add({DescribeLatency(row.to), std::to_string(row.calls), std::string(width, '#')});
  }
  histogram.Print();
}

void PrintResult(const LoadResult& result, const LoadOptions& load) {
  PrintLine(fmt::format(
      "{} of {} calls were answered OK: {:.1f} calls/s{} for {:.3g}s", result.accepted,
      result.calls, PerSecond(result.calls_in_time, result.duration),
      load.batch == 0 ? ""
                      : fmt::format(", {:.1f} decisions/s",
                                    PerSecond(result.decisions_in_time, result.duration)),
      Seconds(result.duration)));
  if (result.max_send_lag > kLate) {
    PrintLine(fmt::format("This client did not keep up: it sent calls up to {} late. Latencies "
                          "count from when a call was due.",
                          DescribeLatency(result.max_send_lag)),
              Style::kRefused);
  } else if (load.callers == 0) {
    PrintLine(
        fmt::format("Calls were sent at most {} late.", DescribeLatency(result.max_send_lag)));
  }
  PrintLine("");
  PrintOutcomes(result);
  PrintLine("");
  PrintLatency(result.latency);
}

LoadResult RunWithProgress(const Channels& channels, const LoadOptions& load,
                           Interrupt& interrupt) {
  ProgressBar bar;
  return RunLoad(channels, load, [&](const LoadProgress& progress) {
    bar.Show(progress.fraction, fmt::format("{} calls", progress.answered));
    return !interrupt.Came();
  });
}

int Bench(const BenchArguments& arguments) {
  Interrupt interrupt;  // Before gRPC starts threads.
  const Channels channels = Connect(arguments);
  if (channels.empty()) return kExitRuntime;
  LoadOptions load = arguments.load;
  load.timeout = arguments.daemon.answer.timeout;
  load.cost = arguments.request.cost;
  const LoadResult result = RunWithProgress(channels, load, interrupt);
  if (result.calls == 0) {
    TellError("rlctl: no call was due within the time that counts (--rate, --warmup, --duration)");
    return kExitRuntime;
  }
  if (result.accepted == 0) {
    TellError(fmt::format("rlctl: none of {} calls was answered OK; the last one:", result.calls));
    TellError(DescribeFailure(result.last_error, arguments.daemon, *channels.front()));
    return kExitRuntime;
  }
  if (arguments.daemon.answer.json) {
    PrintJson(ToJson(result));
  } else {
    PrintResult(result, load);
  }
  return kExitOk;
}

// Options that are a number from 1, and those that are a duration up to a day.

struct CountOption {
  const char* name;
  std::uint32_t most;
  const char* meaning;
};

constexpr CountOption kRate = {"--rate", 1'000'000,
                               "Calls a second, sent when they are due, whatever the answers do"};
constexpr CountOption kCallers = {
    "--callers", kMaxCallsInFlight,
    "Instead: callers that each send the next call when the last is answered"};
constexpr CountOption kConnections = {"--connections", 1'000, "Used in turns"};
constexpr CountOption kUsers = {
    "--users", 1'000'000'000,
    "Users user-000000 and so on, chosen at random, the same in every run"};
constexpr CountOption kBatch = {"--batch", 1'000,
                                "Calls of AllowRequests, with so many requests in each"};

struct DurationOption {
  const char* name;
  std::chrono::microseconds least;
  const char* meaning;
};

constexpr DurationOption kDuration = {"--duration", 1ms, "How long calls are sent and counted"};
constexpr DurationOption kWarmup = {"--warmup", 0ms, "How long calls are sent before they count"};

// Both: `option` and `value` must outlive the parsing.

CLI::Option& AddCount(CLI::App& command, const CountOption& option, std::uint32_t& value) {
  return *command
              .add_option_function<std::string>(
                  option.name,
                  [&option, &value](const std::string& text) {
                    value = ReadNumber(option.name, text, 1, option.most);
                  },
                  option.meaning)
              ->type_name("N");
}

void AddDuration(CLI::App& command, const DurationOption& option,
                 std::chrono::microseconds& value) {
  command
      .add_option_function<std::string>(
          option.name,
          [&option, &value](const std::string& text) {
            constexpr std::chrono::microseconds kMost = 24h;
            value = ReadDuration(option.name, text, option.least, kMost);
          },
          option.meaning)
      ->type_name("DURATION")
      ->default_str(FormatDuration(value));
}

void AddPace(CLI::App& command, BenchArguments& arguments) {
  LoadOptions& load = arguments.load;
  CLI::Option& rate = AddCount(command, kRate, load.rate);
  rate.default_str(std::to_string(load.rate));
  AddCount(command, kCallers, load.callers).excludes(&rate);
  AddDuration(command, kDuration, load.duration);
  AddDuration(command, kWarmup, load.warmup);
  AddCount(command, kConnections, arguments.connections)
      .default_str(std::to_string(arguments.connections));
}

void AddTraffic(CLI::App& command, BenchArguments& arguments) {
  LoadOptions& load = arguments.load;
  AddCount(command, kUsers, load.users).default_str(std::to_string(load.users));
  command
      .add_option_function<std::string>(
          "--zipf",
          [&load](const std::string& text) {
            constexpr double kMost = 10;
            const char* const end = text.data() + text.size();
            double& exponent = load.zipf_exponent;
            const auto [rest, error] = std::from_chars(text.data(), end, exponent);
            // Neither holds for NaN.
            const bool accepted = exponent >= 0 && exponent <= kMost;
            if (error != std::errc() || rest != end || !accepted) {
              Reject("--zipf", text, "0 to 10, such as 1.1");
            }
          },
          "Some users more often: the i-th in proportion to 1/i^S; 0 is all alike")
      ->type_name("S")
      ->default_str("0");
  command.add_option("--path", load.paths, "What is asked for; given several times: in turns")
      ->type_name("PATH")
      ->allow_extra_args(false)
      ->check(Utf8());
  AddCost(command, arguments.request);
  AddCount(command, kBatch, load.batch);
}

}  // namespace

void AddBenchCommand(CLI::App& app, Run& run) {
  const auto arguments = std::make_shared<BenchArguments>();
  CLI::App& bench = *app.add_subcommand(
      "bench", "Measure the daemon: put load on it, and show calls a second and latencies");
  AddPace(bench, *arguments);
  AddTraffic(bench, *arguments);
  AddDaemon(bench, arguments->daemon);
  bench.callback([arguments, &run] {
    const LoadOptions& load = arguments->load;
    if (std::size_t{load.callers} * load.batch > kMaxRequestsInFlight) {
      Reject("--callers times --batch", fmt::format("{} times {}", load.callers, load.batch),
             fmt::format("at most {}", kMaxRequestsInFlight));
    }
    run = [arguments] { return Bench(*arguments); };
  });
}

}  // namespace ratelimiter
