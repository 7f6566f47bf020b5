#include "backlog.h"

#include <algorithm>
#include <charconv>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <grpc/grpc.h>
#include <grpc/support/alloc.h>
#include <grpcpp/server.h>
#include <grpcpp/support/server_interceptor.h>
#include <nlohmann/json.hpp>

namespace ratelimiter {
namespace {

using grpc::experimental::Interceptor;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerInterceptorFactoryInterface;
using grpc::experimental::ServerRpcInfo;
using Count = std::atomic<std::int64_t>;

constexpr std::string_view kWatch = "/grpc.health.v1.Health/Watch";

// Counts the calls that threads are at, until they are answered.
class TakenUp final : public grpc::Server::GlobalCallbacks {
 public:
  void PreSynchronousRequest(grpc::ServerContext* /*context*/) override {
    count_.fetch_add(1, std::memory_order_relaxed);
  }
  void PostSynchronousRequest(grpc::ServerContext* /*context*/) override {
    count_.fetch_sub(1, std::memory_order_relaxed);
  }

  const Count& count() const { return count_; }

 private:
  alignas(64) Count count_ = 0;
};

// gRPC takes one for all servers of a process, once.
const Count& CountTakenUp() {
  static const TakenUp& taken_up = []() -> const TakenUp& {
    // Never freed: it must outlive all servers.
    auto* const callbacks = new TakenUp;  // NOLINT(cppcoreguidelines-owning-memory)
    grpc::Server::SetGlobalCallbacks(callbacks);
    return *callbacks;
  }();
  return taken_up.count();
}

// Lives as long as a stream of health does.
class Watch final : public Interceptor {
 public:
  explicit Watch(std::shared_ptr<Count> count) : count_(std::move(count)) { ++*count_; }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() override { --*count_; }

  void Intercept(InterceptorBatchMethods* methods) override { methods->Proceed(); }

 private:
  const std::shared_ptr<Count> count_;
};

class CountsWatches final : public ServerInterceptorFactoryInterface {
 public:
  explicit CountsWatches(std::shared_ptr<Count> count) : count_(std::move(count)) {}

  // nullptr: the call is not intercepted.
  Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override {
    if (info->type() == ServerRpcInfo::Type::UNARY || info->method() != kWatch) return nullptr;
    return new Watch(count_);  // NOLINT(cppcoreguidelines-owning-memory): gRPC's.
  }

 private:
  const std::shared_ptr<Count> count_;
};

// What a function of channelz answered. Discarded: none, or not JSON.
nlohmann::json Parse(char* answer) {
  if (answer == nullptr) return nlohmann::json::value_t::discarded;
  const std::unique_ptr<char, decltype(&gpr_free)> text(answer, gpr_free);
  return nlohmann::json::parse(text.get(), nullptr, /*allow_exceptions=*/false);
}

// The number at `path`, which is written as a string; 0 if there is none, for zeros
// are left out.
std::int64_t NumberAt(const nlohmann::json& json, const std::string& path) {
  const nlohmann::json::json_pointer pointer(path);
  if (!json.contains(pointer) || !json.at(pointer).is_string()) return 0;
  const auto& digits = json.at(pointer).get_ref<const std::string&>();
  std::int64_t number = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), number);
  return number;
}

}  // namespace

void Backlog::Prepare(grpc::ServerBuilder& builder) {
  taken_up_ = &CountTakenUp();
  std::vector<std::unique_ptr<ServerInterceptorFactoryInterface>> factories;
  factories.push_back(std::make_unique<CountsWatches>(watches_));
  builder.experimental().SetInterceptorCreators(std::move(factories));
}

void Backlog::Attach() {
  const nlohmann::json answer = Parse(grpc_channelz_get_servers(0));
  if (!answer.is_object() || !answer.contains("server")) return;
  for (const nlohmann::json& server : answer["server"]) {
    server_ = std::max<std::intptr_t>(server_, NumberAt(server, "/ref/serverId"));
  }
}

std::size_t Backlog::Calls() const {
  if (server_ == 0) return 0;
  const nlohmann::json answer = Parse(grpc_channelz_get_server(server_));
  if (!answer.is_object()) return 0;
  const std::int64_t calls = NumberAt(answer, "/server/data/callsStarted") -
                             NumberAt(answer, "/server/data/callsSucceeded") -
                             NumberAt(answer, "/server/data/callsFailed");
  return static_cast<std::size_t>(std::max<std::int64_t>(calls - *taken_up_ - *watches_, 0));
}

}  // namespace ratelimiter
