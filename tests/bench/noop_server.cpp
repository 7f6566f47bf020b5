// The daemon's server over a store that answers at once: what gRPC alone costs,
// for bench.py to measure the daemon against. It takes the daemon's settings.

#include <cstddef>
#include <memory>
#include <span>

#include <absl/status/status.h>

#include "bench_server.h"

namespace ratelimiter {
namespace {

class NoopStore final : public TokenBucketStore {
 public:
  void Decide(std::span<Transaction> transactions, Deadline /*deadline*/) override {
    for (Transaction& transaction : transactions) {
      for (std::size_t i = 0; i < transaction.charges.size(); ++i) {
        transaction.decisions[i] = {.allowed = true,
                                    .remaining = transaction.charges[i].spec.capacity};
      }
    }
  }
  std::string Describe() const override { return "none"; }
  absl::Status Check(Deadline /*deadline*/) override { return absl::OkStatus(); }
};

}  // namespace
}  // namespace ratelimiter

int main(int argc, char** argv) {
  return ratelimiter::RunBenchServer(argc, argv, [](const auto& /*settings*/, auto& /*metrics*/) {
    return std::make_unique<ratelimiter::NoopStore>();
  });
}
