#pragma once

#include <functional>
#include <memory>
#include <utility>

#include <grpcpp/channel.h>

#include "grpc/reflection/v1/reflection.grpc.pb.h"

namespace ratelimiter {

// Server reflection v1, which gRPC 1.51 does not bring: it passes each question
// to the v1alpha service of the same server, whose messages are the same on the
// wire.
//
// Thread-safe after Attach.
class ReflectionService final : public grpc::reflection::v1::ServerReflection::Service {
 public:
  // `connect`: gives a channel to this server, once it is built.
  void Attach(std::function<std::shared_ptr<grpc::Channel>()> connect) {
    connect_ = std::move(connect);
  }

  grpc::Status ServerReflectionInfo(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<grpc::reflection::v1::ServerReflectionResponse,
                               grpc::reflection::v1::ServerReflectionRequest>* stream) override;

 private:
  std::function<std::shared_ptr<grpc::Channel>()> connect_;
};

}  // namespace ratelimiter
