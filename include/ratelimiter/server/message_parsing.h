#pragma once

#include <grpcpp/impl/codegen/config_protobuf.h>
#include <grpcpp/impl/codegen/proto_utils.h>

// Compiled in front of gRPC's generated code (proto/CMakeLists.txt), so that a
// request that does not parse, such as one with a string that is not valid
// UTF-8, is answered INVALID_ARGUMENT with a message: it is the caller's error,
// where gRPC by itself says INTERNAL and nothing more.
template <>
class grpc::SerializationTraits<grpc::protobuf::MessageLite, void> {
 public:
  static Status Serialize(const protobuf::MessageLite& message, ByteBuffer* buffer,
                          bool* own_buffer) {
    return GenericSerialize<ProtoBufferWriter, protobuf::MessageLite>(message, buffer, own_buffer);
  }

  static Status Deserialize(ByteBuffer* buffer, protobuf::MessageLite* message) {
    const Status status =
        GenericDeserialize<ProtoBufferReader, protobuf::MessageLite>(buffer, message);
    if (status.error_code() != StatusCode::INTERNAL) return status;
    return {StatusCode::INVALID_ARGUMENT,
            "the message does not parse as " + message->GetTypeName() +
                ": malformed protobuf, or a string that is not valid UTF-8"};
  }
};
