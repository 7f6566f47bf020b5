#include "load.h"

#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <queue>
#include <random>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/support/async_unary_call.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "limiter/limiter.grpc.pb.h"
#include "send_schedule.h"
#include "zipf.h"

namespace ratelimiter {
namespace {

using namespace std::chrono_literals;

using Clock = std::chrono::steady_clock;
using limiter::RateLimiter;

// How long a thread may take to see that the load was ended early.
constexpr Clock::duration kGlance = 50ms;

// Which requests are made, one after the other. Not thread-safe: it belongs to the
// thread that sends.
class Traffic {
 public:
  // NOLINTNEXTLINE(bugprone-random-generator-seed)
  explicit Traffic(const LoadOptions& options)
      : paths_(options.paths), cost_(options.cost), users_(options.users, options.zipf_exponent) {}

  void Fill(limiter::AllowRequestRequest& request) {
    std::string& user = *request.mutable_user_id();
    user.clear();
    fmt::format_to(std::back_inserter(user), "user-{:06}", users_(random_));
    if (!paths_.empty()) request.set_path(paths_[next_path_++ % paths_.size()]);
    if (cost_.has_value()) request.set_cost(*cost_);
  }

  // How long a caller waits that was not told.
  Clock::duration AnyWait() {
    return std::chrono::milliseconds(std::uniform_int_distribution<int>(50, 150)(random_));
  }

 private:
  const std::vector<std::string> paths_;
  const std::optional<std::uint32_t> cost_;
  const ZipfDistribution users_;
  std::mt19937_64 random_;  // The same in every run.
  std::size_t next_path_ = 0;
};

void CountDecision(const limiter::AllowRequestResponse& response, LoadResult& result) {
  ++(response.allowed() ? result.allowed : result.denied);
}

void CountErrors(std::uint32_t code, std::uint64_t count, LoadResult& result) {
  constexpr std::uint32_t kUnknown = grpc::StatusCode::UNKNOWN;
  result.errors[code < result.errors.size() ? code : kUnknown] += count;
}

// The two methods that a load can consist of.

struct OneRequest {
  using Request = limiter::AllowRequestRequest;
  using Response = limiter::AllowRequestResponse;

  static auto Start(RateLimiter::Stub& stub, grpc::ClientContext& context, const Request& request,
                    grpc::CompletionQueue& queue) {
    return stub.AsyncAllowRequest(&context, request, &queue);
  }
  static void Fill(Traffic& traffic, std::uint32_t /*batch*/, Request& request) {
    traffic.Fill(request);
  }
  static std::uint64_t Decisions(const Response& /*response*/) { return 1; }
  static void Count(const Response& response, LoadResult& result) {
    CountDecision(response, result);
  }
};

struct ManyRequests {
  using Request = limiter::AllowRequestsRequest;
  using Response = limiter::AllowRequestsResponse;

  static auto Start(RateLimiter::Stub& stub, grpc::ClientContext& context, const Request& request,
                    grpc::CompletionQueue& queue) {
    return stub.AsyncAllowRequests(&context, request, &queue);
  }
  static void Fill(Traffic& traffic, std::uint32_t batch, Request& request) {
    while (request.requests_size() < static_cast<int>(batch)) request.add_requests();
    for (limiter::AllowRequestRequest& one : *request.mutable_requests()) traffic.Fill(one);
  }
  static std::uint64_t Decisions(const Response& response) {
    return static_cast<std::uint64_t>(std::ranges::count_if(
        response.results(), [](const auto& one) { return one.code() == grpc::StatusCode::OK; }));
  }
  static void Count(const Response& response, LoadResult& result) {
    for (const limiter::AllowRequestsResult& one : response.results()) {
      if (one.code() == grpc::StatusCode::OK) {
        CountDecision(one.response(), result);
      } else {
        CountErrors(one.code(), 1, result);
      }
    }
  }
};

template <typename Method>
class LoadRun {
 public:
  LoadRun(std::span<const std::shared_ptr<grpc::Channel>> channels, const LoadOptions& options)
      : options_(options),
        counted_from_(Clock::now() + options.warmup),
        ends_(counted_from_ + options.duration),
        traffic_(options) {
    for (const auto& channel : channels) stubs_.push_back(RateLimiter::NewStub(channel));
  }

  LoadResult Run(absl::FunctionRef<bool(const LoadProgress&)> watch) {
    {
      std::atomic<bool> over = false;
      const std::jthread receiver([&] {
        if (options_.callers > 0) {
          ServeCallers();
        } else {
          ReceiveAll();
        }
        over = true;
      });
      std::jthread sender;
      if (options_.callers == 0) sender = std::jthread([this] { SendAll(); });
      const Clock::time_point start = counted_from_ - options_.warmup;
      const std::chrono::duration<double> whole = options_.warmup + options_.duration;
      while (!over) {
        const double fraction = (Clock::now() - start) / whole;
        if (!watch({.fraction = std::min(fraction, 1.0), .answered = answered_})) End();
      }
    }
    result_.duration = std::max(ends() - counted_from_, Clock::duration::zero());
    return std::move(result_);
  }

 private:
  // One call after the other, so that what it needs is allocated once.
  struct Call {
    Method::Request request;
    Method::Response response;
    std::optional<grpc::ClientContext> context;
    std::unique_ptr<grpc::ClientAsyncResponseReader<typename Method::Response>> reader;
    grpc::Status status;
    Clock::time_point due;
  };

  // A caller that waits before its next call.
  struct Waiting {
    Clock::time_point until;
    Call* call;
    bool operator>(const Waiting& other) const { return until > other.until; }
  };

  Clock::time_point ends() const { return ends_.load(std::memory_order_relaxed); }

  // Unless it is over anyway.
  void End() { ends_ = std::min(ends(), Clock::now()); }

  void Send(Call& call, Clock::time_point due) {
    call.due = due;
    Method::Fill(traffic_, options_.batch, call.request);
    call.context.emplace();
    call.context->set_deadline(std::chrono::system_clock::now() + options_.timeout);
    RateLimiter::Stub& stub = *stubs_[next_stub_++ % stubs_.size()];
    call.reader = Method::Start(stub, *call.context, call.request, queue_);
    call.reader->Finish(&call.response, &call.status, &call);
  }

  // By the receiver alone.
  void Count(const Call& call) {
    const Clock::time_point now = Clock::now();
    answered_.store(answered_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    if (!call.status.ok()) result_.last_error = call.status;
    if (call.status.ok() && now >= counted_from_ && now < ends()) {
      ++result_.calls_in_time;
      result_.decisions_in_time += Method::Decisions(call.response);
    }
    if (call.due < counted_from_) return;
    ++result_.calls;
    if (call.status.ok()) {
      ++result_.accepted;
      result_.latency.Record(now - call.due);
      Method::Count(call.response, result_);
    } else {
      CountErrors(call.status.error_code(), std::max(options_.batch, 1U), result_);
    }
  }

  // --- The open loop ---
  //
  // Sending and receiving have a thread each: gRPC's queue can wait until a time,
  // but only to the millisecond.

  void SendAll() {
    // Else the system may wake this thread 50 us late.
    prctl(PR_SET_TIMERSLACK, 1);
    const SendSchedule schedule(counted_from_ - options_.warmup, options_.rate);
    for (std::uint64_t number = 0;; ++number) {
      const Clock::time_point due = schedule.At(number);
      if (!SleepUntil(due)) break;
      Call* const call = Take();
      if (call == nullptr) break;
      if (due >= counted_from_) {
        result_.max_send_lag = std::max(result_.max_send_lag, Clock::now() - due);
      }
      Send(*call, due);
    }
    queue_.Shutdown();
  }

  // False: the load ends before that.
  bool SleepUntil(Clock::time_point due) const {
    while (due < ends()) {
      const Clock::time_point now = Clock::now();
      if (now >= due) return true;
      std::this_thread::sleep_until(std::min(due, now + kGlance));
    }
    return false;
  }

  // A call to send. nullptr: the load ended before one was free.
  Call* Take() {
    const std::size_t most =
        std::min(kMaxCallsInFlight, kMaxRequestsInFlight / std::max(options_.batch, 1U));
    std::unique_lock lock(mutex_);
    if (free_.empty() && calls_.size() < most) return &calls_.emplace_back();
    while (free_.empty()) {
      if (Clock::now() >= ends()) return nullptr;
      freed_.wait_for(lock, kGlance);
    }
    Call* const call = free_.back();
    free_.pop_back();
    return call;
  }

  void Free(Call& call) {
    const std::lock_guard lock(mutex_);
    free_.push_back(&call);
    if (free_.size() == 1) freed_.notify_one();
  }

  void ReceiveAll() {
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
      Call& call = *static_cast<Call*>(tag);
      Count(call);
      Free(call);
    }
  }

  // --- The closed loop ---

  void ServeCallers() {
    for (std::uint32_t i = 0; i < options_.callers; ++i) Send(calls_.emplace_back(), Clock::now());
    for (Clock::time_point now = Clock::now(); now < ends(); now = Clock::now()) {
      ReceiveOne(now);
      WakeCallers();
    }
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) Count(*static_cast<Call*>(tag));
  }

  // Waits for an answer until the next caller's wait is over.
  void ReceiveOne(Clock::time_point now) {
    Clock::time_point until = std::min(now + kGlance, ends());
    if (!waiting_.empty()) until = std::min(until, waiting_.top().until);
    void* tag = nullptr;
    bool ok = false;
    if (queue_.AsyncNext(&tag, &ok, std::chrono::system_clock::now() + (until - now)) !=
        grpc::CompletionQueue::GOT_EVENT) {
      return;
    }
    Call& call = *static_cast<Call*>(tag);
    Count(call);
    if (call.status.ok()) {
      Send(call, Clock::now());
      return;
    }
    const std::optional<std::chrono::microseconds> told = RetryDelayOf(call.status);
    waiting_.push(
        {.until = Clock::now() + (told.has_value() ? *told : traffic_.AnyWait()), .call = &call});
  }

  void WakeCallers() {
    while (!waiting_.empty() && waiting_.top().until <= Clock::now()) {
      Call& call = *waiting_.top().call;
      waiting_.pop();
      Send(call, Clock::now());
    }
  }

  const LoadOptions& options_;
  const Clock::time_point counted_from_;
  std::vector<std::unique_ptr<RateLimiter::Stub>> stubs_;

  std::atomic<Clock::time_point> ends_;
  std::atomic<std::uint64_t> answered_ = 0;
  grpc::CompletionQueue queue_;

  // The sender's; in a closed loop the receiver's.
  Traffic traffic_;
  std::size_t next_stub_ = 0;

  // The receiver's, but for max_send_lag, which is the sender's.
  LoadResult result_;
  std::priority_queue<Waiting, std::vector<Waiting>, std::greater<>> waiting_;

  // Calls that are not in flight are shared by sender and receiver.
  std::mutex mutex_;
  std::condition_variable freed_;
  std::vector<Call*> free_;  // Guarded by mutex_.
  std::deque<Call> calls_;   // The sender's.
};

}  // namespace

LoadResult RunLoad(std::span<const std::shared_ptr<grpc::Channel>> channels,
                   const LoadOptions& options, absl::FunctionRef<bool(const LoadProgress&)> watch) {
  return options.batch == 0 ? LoadRun<OneRequest>(channels, options).Run(watch)
                            : LoadRun<ManyRequests>(channels, options).Run(watch);
}

std::optional<std::chrono::microseconds> RetryDelayOf(const grpc::Status& status) {
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) return std::nullopt;
  for (const google::protobuf::Any& detail : details.details()) {
    google::rpc::RetryInfo info;
    if (!detail.UnpackTo(&info)) continue;
    constexpr std::int64_t kMostSeconds = 86'400;
    const std::int64_t seconds =
        std::clamp<std::int64_t>(info.retry_delay().seconds(), 0, kMostSeconds);
    const std::int32_t nanoseconds = std::clamp(info.retry_delay().nanos(), 0, 999'999'999);
    return std::chrono::seconds(seconds) +
           std::chrono::ceil<std::chrono::microseconds>(std::chrono::nanoseconds(nanoseconds));
  }
  return std::nullopt;
}

}  // namespace ratelimiter
