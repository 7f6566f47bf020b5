#pragma once

#include <functional>
#include <memory>
#include <utility>

#include <google/protobuf/arena.h>
#include <grpcpp/impl/codegen/config_protobuf.h>
#include <grpcpp/impl/codegen/method_handler.h>
#include <grpcpp/impl/codegen/server_context.h>

#include "limiter/limiter.pb.h"

// Compiled in front of gRPC's generated code (proto/CMakeLists.txt), as message_parsing.h
// is, so that AllowRequests's request and response lie on arenas: a batch of a hundred
// is some nine hundred objects, which are then made and freed together. gRPC itself takes
// arenas for callback services only. docs/internals/performance.md tells what it gives.
template <class Service>
class grpc::internal::RpcMethodHandler<Service, limiter::AllowRequestsRequest,
                                       limiter::AllowRequestsResponse, grpc::protobuf::MessageLite,
                                       grpc::protobuf::MessageLite>
    : public grpc::internal::MethodHandler {
  using Arena = google::protobuf::Arena;
  using Request = limiter::AllowRequestsRequest;
  using Response = limiter::AllowRequestsResponse;
  using Handle = std::function<Status(Service*, ServerContext*, const Request*, Response*)>;

 public:
  RpcMethodHandler(Handle handle, Service* service)
      : handle_(std::move(handle)), service_(service) {}

  // The request, which owns its arena until RunHandler has it; null: `status` says why.
  void* Deserialize(grpc_call* /*call*/, grpc_byte_buffer* bytes, Status* status,
                    void** /*data*/) final {
    auto arena = std::make_unique<Arena>(BlockSizes());
    auto* const request = Arena::CreateMessage<Request>(arena.get());
    if (UnaryDeserializeHelper<protobuf::MessageLite>(bytes, status, request) == nullptr) {
      return nullptr;
    }
    arena.release();  // NOLINT(bugprone-unused-return-value): request->GetArena()
    return request;
  }

  void RunHandler(const HandlerParameter& call) final {
    auto* const request = static_cast<Request*>(call.request);
    const std::unique_ptr<Arena> request_arena(request == nullptr ? nullptr : request->GetArena());
    Arena arena(BlockSizes());
    auto* const response = Arena::CreateMessage<Response>(&arena);
    Status status = call.status;
    if (status.ok()) {
      status = CatchingFunctionHandler([&] {
        return handle_(service_, static_cast<ServerContext*>(call.server_context), request,
                       response);
      });
    }
    UnaryRunHandlerHelper<protobuf::MessageLite>(call, response, status);
  }

 private:
  // A batch of a hundred fits in a few.
  static google::protobuf::ArenaOptions BlockSizes() {
    google::protobuf::ArenaOptions options;
    options.start_block_size = 16 * 1024;
    options.max_block_size = 64 * 1024;
    return options;
  }

  const Handle handle_;
  Service* const service_;
};
