#include "server/backlog.h"

#include <cstddef>
#include <latch>
#include <memory>
#include <thread>

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server.h>
#include <gtest/gtest.h>

#include "grpc/health/v1/health.grpc.pb.h"
#include "limiter/limiter.grpc.pb.h"
#include "support/eventually.h"

namespace ratelimiter {
namespace {

// Calls of AllowRequest are never taken up; those of GetUsage are, but not answered
// before they are told to be.
class Held final
    : public limiter::RateLimiter::WithAsyncMethod_AllowRequest<limiter::RateLimiter::Service> {
 public:
  grpc::Status GetUsage(grpc::ServerContext* /*context*/,
                        const limiter::GetUsageRequest* /*message*/,
                        limiter::GetUsageResponse* /*response*/) override {
    taken_up_.count_down();
    released_.wait();
    return grpc::Status::OK;
  }

  void WaitUntilTakenUp() { taken_up_.wait(); }
  void Release() { released_.count_down(); }

 private:
  std::latch taken_up_{1};
  std::latch released_{1};
};

class BacklogTest : public ::testing::Test {
 protected:
  BacklogTest() {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.RegisterService(&service_);
    queue_ = builder.AddCompletionQueue();
    backlog_.Prepare(builder);
    server_ = builder.BuildAndStart();
    backlog_.Attach();
    channel_ = server_->InProcessChannel({});
    stub_ = limiter::RateLimiter::NewStub(channel_);
    health_ = grpc::health::v1::Health::NewStub(channel_);
  }

  ~BacklogTest() override {
    server_->Shutdown(std::chrono::system_clock::now());
    queue_->Shutdown();
  }

  bool BecomesCalls(std::size_t calls) const {
    return testing::Eventually([&] { return backlog_.Calls() == calls; });
  }

  Held service_;
  Backlog backlog_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<limiter::RateLimiter::Stub> stub_;
  std::unique_ptr<grpc::health::v1::Health::Stub> health_;
};

// A call that waits for its answer, until it is cancelled.
class WaitingCall {
 public:
  explicit WaitingCall(limiter::RateLimiter::Stub& stub)
      : caller_([this, &stub] {
          limiter::AllowRequestResponse response;
          EXPECT_FALSE(stub.AllowRequest(&context_, {}, &response).ok());
        }) {}
  WaitingCall(const WaitingCall&) = delete;
  WaitingCall& operator=(const WaitingCall&) = delete;
  ~WaitingCall() { context_.TryCancel(); }

 private:
  grpc::ClientContext context_;
  std::jthread caller_;
};

TEST_F(BacklogTest, HasTheCallsThatNoThreadHasTakenUp) {
  EXPECT_EQ(backlog_.Calls(), 0U);
  const WaitingCall one(*stub_);
  EXPECT_TRUE(BecomesCalls(1));
  const WaitingCall other(*stub_);
  EXPECT_TRUE(BecomesCalls(2));
}

TEST_F(BacklogTest, HasNoCallThatAThreadIsAt) {
  std::jthread caller([&] {
    grpc::ClientContext context;
    limiter::GetUsageResponse response;
    EXPECT_TRUE(stub_->GetUsage(&context, {}, &response).ok());
  });
  service_.WaitUntilTakenUp();
  EXPECT_EQ(backlog_.Calls(), 0U);
  const WaitingCall waiting(*stub_);
  EXPECT_TRUE(BecomesCalls(1));
  service_.Release();
  caller.join();
  EXPECT_TRUE(BecomesCalls(1));
}

TEST_F(BacklogTest, HasNoStreamThatAClientKeepsOpen) {
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckResponse response;
  const auto stream = health_->Watch(&context, {});
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(backlog_.Calls(), 0U);
  const WaitingCall waiting(*stub_);
  EXPECT_TRUE(BecomesCalls(1));
  context.TryCancel();
  stream->Finish();
  EXPECT_TRUE(BecomesCalls(1));
}

TEST_F(BacklogTest, CallsThatHaveEndedLeaveNothing) {
  for (int i = 0; i < 3; ++i) {
    grpc::ClientContext check;
    grpc::health::v1::HealthCheckResponse response;
    EXPECT_TRUE(health_->Check(&check, {}, &response).ok());
    grpc::ClientContext batch;
    limiter::AllowRequestsResponse none;
    EXPECT_EQ(stub_->AllowRequests(&batch, {}, &none).error_code(),
              grpc::StatusCode::UNIMPLEMENTED);
  }
  EXPECT_TRUE(BecomesCalls(0));
}

TEST(BacklogWithoutServerTest, IsEmpty) { EXPECT_EQ(Backlog().Calls(), 0U); }

}  // namespace
}  // namespace ratelimiter
