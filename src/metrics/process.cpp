#include "process.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include "ratelimiter/metrics/metric_table.h"

namespace ratelimiter {
namespace {

// When the machine was started, in seconds since the epoch.
double BootTime() {
  std::ifstream file("/proc/stat");
  for (std::string word; file >> word;) {
    double seconds = 0;
    if (word == "btime" && file >> seconds) return seconds;
  }
  return 0;
}

// The numbers of /proc/self/stat from the third field on, as proc(5) counts them; those
// before may hold anything.
std::vector<double> ReadStat() {
  std::ifstream file("/proc/self/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream rest(text.substr(name_end + 1));
  char state = ' ';
  rest >> state;
  return {std::istream_iterator<double>(rest), {}};
}

// Of /proc/self/stat.
struct ProcessFigures {
  double cpu_seconds = 0;
  double resident_bytes = 0;
  double virtual_bytes = 0;
  double threads = 0;
  // Since the epoch.
  double started_seconds = 0;
};

ProcessFigures ReadProcess() {
  // Fields by their numbers in proc(5), of which the first read is the fourth.
  constexpr std::size_t kFirst = 4;
  constexpr std::size_t kUserTime = 14;
  constexpr std::size_t kSystemTime = 15;
  constexpr std::size_t kThreads = 20;
  constexpr std::size_t kStartTime = 22;
  constexpr std::size_t kVirtualBytes = 23;
  constexpr std::size_t kResidentPages = 24;
  static const double boot_time = BootTime();

  const std::vector<double> stat = ReadStat();
  if (stat.size() <= kResidentPages - kFirst) return {};
  const auto field = [&](std::size_t number) { return stat[number - kFirst]; };
  const auto ticks_per_second = static_cast<double>(sysconf(_SC_CLK_TCK));
  return {.cpu_seconds = (field(kUserTime) + field(kSystemTime)) / ticks_per_second,
          .resident_bytes = field(kResidentPages) * static_cast<double>(sysconf(_SC_PAGESIZE)),
          .virtual_bytes = field(kVirtualBytes),
          .threads = field(kThreads),
          .started_seconds = boot_time + field(kStartTime) / ticks_per_second};
}

// File descriptors that are open now.
double OpenFds() {
  std::error_code error;
  double count = 0;
  for (std::filesystem::directory_iterator entry("/proc/self/fd", error), end;
       !error && entry != end; entry.increment(error)) {
    ++count;
  }
  // One of them is the folder's.
  return count > 0 ? count - 1 : 0;
}

// And that may be.
double MaxFds() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<double>(limit.rlim_cur);
}

prometheus::MetricFamily Family(Metric metric, double value) {
  prometheus::MetricFamily family = FamilyOf(metric);
  family.metric = {SampleOf(metric, {}, value)};
  return family;
}

}  // namespace

std::vector<prometheus::MetricFamily> ProcessMetrics::Collect() const {
  const ProcessFigures figures = ReadProcess();
  return {Family(Metric::kProcessCpu, figures.cpu_seconds),
          Family(Metric::kProcessResidentMemory, figures.resident_bytes),
          Family(Metric::kProcessVirtualMemory, figures.virtual_bytes),
          Family(Metric::kProcessOpenFds, OpenFds()),
          Family(Metric::kProcessMaxFds, MaxFds()),
          Family(Metric::kProcessStart, figures.started_seconds),
          Family(Metric::kProcessThreads, figures.threads)};
}

}  // namespace ratelimiter
