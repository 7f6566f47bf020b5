#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include <grpcpp/server_builder.h>

namespace ratelimiter {

// How many calls have come in to the synchronous handlers of a gRPC server and wait
// until a thread takes them up. No handler can see them; where processors are what is
// short, they are nearly all there are.
//
// They are those that gRPC has counted as begun and not ended (channelz), less those
// that threads have taken up, answered or not, and less the streams that clients of
// health keep open.
//
// Thread-safe after Attach. One server a process, for what threads have taken up is
// told for all servers of one.
class Backlog {
 public:
  // Before the server is built.
  void Prepare(grpc::ServerBuilder& builder);

  // Once the server is built, to the latest one.
  void Attach();

  // Takes about 0.1 ms; a few too high or too low, for the counts are not read at one
  // moment. 0 before Attach.
  std::size_t Calls() const;

 private:
  const std::atomic<std::int64_t>* taken_up_ = nullptr;
  // Shared with gRPC's interceptors, whose end is its affair.
  const std::shared_ptr<std::atomic<std::int64_t>> watches_ =
      std::make_shared<std::atomic<std::int64_t>>(0);
  std::intptr_t server_ = 0;  // channelz's number; 0: none.
};

}  // namespace ratelimiter
