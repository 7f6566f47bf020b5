#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <grpcpp/channel.h>
#include <grpcpp/support/channel_arguments.h>
#include <grpcpp/support/status.h>

#include "arguments.h"

namespace ratelimiter {

// Where the daemon's gRPC API is, and how long its answers are waited for.
struct DaemonArguments {
  std::uint32_t port = 50051;
  std::string target;  // Empty: this machine and `port`.
  TlsArguments tls;
  // Our own certificate, and its key. Empty: none.
  std::string certificate_file;
  std::string key_file;
  AnswerArguments answer;

  std::string address() const;
};

// --port, --target, --tls-cert, --tls-key, and what AddTls and AddAnswer add; `arguments` must
// outlive the parsing.
void AddDaemon(CLI::App& command, DaemonArguments& arguments);

// Each channel has a connection of its own, made when it is first used. nullptr: a file
// for TLS cannot be used, and that was told.
std::shared_ptr<grpc::Channel> OpenChannel(const DaemonArguments& arguments,
                                           grpc::ChannelArguments channel_arguments = {});

// A code as the API's manual writes it, such as INVALID_ARGUMENT.
std::string NameOf(grpc::StatusCode code);

// What is told of a call that failed. `channel` is the one that it was made on.
std::string DescribeFailure(const grpc::Status& status, const DaemonArguments& arguments,
                            grpc::Channel& channel);

}  // namespace ratelimiter
