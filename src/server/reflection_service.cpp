#include "reflection_service.h"

#include <grpcpp/client_context.h>
#include <grpcpp/impl/codegen/rpc_method.h>
#include <grpcpp/support/sync_stream.h>

namespace ratelimiter {
namespace {

using grpc::reflection::v1::ServerReflectionRequest;
using grpc::reflection::v1::ServerReflectionResponse;

constexpr const char* kV1Alpha = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

}  // namespace

grpc::Status ReflectionService::ServerReflectionInfo(
    grpc::ServerContext* context,
    grpc::ServerReaderWriter<ServerReflectionResponse, ServerReflectionRequest>* stream) {
  const std::unique_ptr<grpc::ClientContext> call_context =
      grpc::ClientContext::FromServerContext(*context);
  const std::shared_ptr<grpc::Channel> channel = connect_();
  const grpc::internal::RpcMethod method(kV1Alpha, grpc::internal::RpcMethod::BIDI_STREAMING,
                                         channel);
  using Factory =
      grpc::internal::ClientReaderWriterFactory<ServerReflectionRequest, ServerReflectionResponse>;
  const std::unique_ptr<grpc::ClientReaderWriter<ServerReflectionRequest, ServerReflectionResponse>>
      v1alpha(Factory::Create(channel.get(), method, call_context.get()));

  ServerReflectionRequest request;
  ServerReflectionResponse response;
  while (stream->Read(&request)) {
    if (!v1alpha->Write(request) || !v1alpha->Read(&response) || !stream->Write(response)) break;
  }
  v1alpha->WritesDone();
  return v1alpha->Finish();
}

}  // namespace ratelimiter
