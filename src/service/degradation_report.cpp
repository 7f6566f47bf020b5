#include "ratelimiter/service/degradation_report.h"

#include <string>
#include <utility>

#include <fmt/format.h>

#include "ratelimiter/service/call_ids.h"

namespace ratelimiter {

DegradationReport::DegradationReport(Metrics& metrics, std::shared_ptr<Logger> logger)
    : metrics_(metrics), logger_(std::move(logger)) {}

void DegradationReport::OnDecided(FailMode mode, const absl::Status& why, const Request& request) {
  metrics_.CountDegraded(mode);
  if (!logger_->Admits(LogKind::kStore, spdlog::level::warn)) return;
  LogFields fields;
  if (request.origin != nullptr) {
    const CallIds ids = request.origin->ids();
    if (ids.request_id.has_value()) fields.push_back({"request_id", *ids.request_id});
    AppendTrace(ids.trace, fields);
  }
  logger_->Write(LogKind::kStore, spdlog::level::warn,
                 fmt::format("store failed; call decided by FAIL_MODE={}: {}", NameOf(mode),
                             std::string(why.message())),
                 fields);
}

void DegradationReport::OnRecovered(std::uint64_t calls) {
  logger_->info("store recovered: no failures for {} s ({} calls failed during the outage)",
                Fallback::kQuiet.count(), calls);
}

}  // namespace ratelimiter
