#include "ratelimiter/service/degradation_report.h"

#include <string_view>

#include <gtest/gtest.h>

#include "ratelimiter/service/call_ids.h"
#include "support/log_file.h"

namespace ratelimiter {
namespace {

TEST(DegradationReportTest, LogsOutagesAndRecovery) {
  Metrics metrics(0, "test");
  const testing::LogFile log;
  DegradationReport report(metrics, log.logger());
  report.OnDecided(FailMode::kOpen, absl::UnavailableError("gone"), {});
  report.OnDecided(FailMode::kLocal, absl::UnavailableError("still gone"), {});
  report.OnRecovered(2);
  EXPECT_EQ(log.untimed(),
            "warning  store failed; call decided by FAIL_MODE=open: gone\tkind=store\n"
            "info  store recovered: no failures for 10 s (2 calls failed during the outage)\n");
  EXPECT_EQ(log.logger()->dropped(LogKind::kStore), 1U);
}

class FakeOrigin final : public Origin {
 public:
  CallIds ids() const override {
    return {.request_id = "abc-1",
            .trace = ParseTraceParent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")};
  }
};

TEST(DegradationReportTest, LogsTheIdsOfTheCall) {
  Metrics metrics(0, "test");
  const testing::LogFile log;
  DegradationReport report(metrics, log.logger());
  const FakeOrigin origin;
  report.OnDecided(FailMode::kOpen, absl::UnavailableError("gone"), {.origin = &origin});
  EXPECT_EQ(log.untimed(),
            "warning  store failed; call decided by FAIL_MODE=open: gone\tkind=store "
            "request_id=abc-1 trace_id=0af7651916cd43dd8448eb211c80319c "
            "span_id=b7ad6b7169203331\n");
}

}  // namespace
}  // namespace ratelimiter
