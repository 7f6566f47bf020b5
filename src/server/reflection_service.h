#pragma once

#include <memory>

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
  // `channel`: to this server, once it is built.
  void Attach(std::shared_ptr<grpc::Channel> channel) { channel_ = std::move(channel); }

  // Lets go of the channel.
  void Detach() { channel_.reset(); }

  grpc::Status ServerReflectionInfo(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<grpc::reflection::v1::ServerReflectionResponse,
                               grpc::reflection::v1::ServerReflectionRequest>* stream) override;

 private:
  std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace ratelimiter
