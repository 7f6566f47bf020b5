#include "ratelimiter/redis/redis_reply.h"

namespace ratelimiter {
namespace {

RedisReply::Type TypeOf(const redisReadTask& task) {
  switch (task.type) {
    case REDIS_REPLY_STATUS:
      return RedisReply::Type::kStatus;
    case REDIS_REPLY_ERROR:
      return RedisReply::Type::kError;
    default:
      return RedisReply::Type::kString;
  }
}

}  // namespace

void RedisReply::Clear() {
  values_.clear();
  text_.clear();
}

bool RedisReply::IsError(std::string_view code) const {
  return type() == Type::kError && text().starts_with(code);
}

void* RedisReply::Add(const Value& value) {
  values_.push_back(value);
  return this;  // Anything but nullptr, which says that memory ran out.
}

redisReplyObjectFunctions RedisReply::Functions() {
  redisReplyObjectFunctions functions{};
  functions.createString = [](const redisReadTask* task, char* text, std::size_t size) -> void* {
    RedisReply& reply = Of(*task);
    const std::size_t begin = reply.text_.size();
    reply.text_.append(text, size);
    return reply.Add({.type = TypeOf(*task), .text_begin = begin, .text_size = size});
  };
  // The type of `elements` differs between versions of hiredis.
  functions.createArray = [](const redisReadTask* task, auto elements) -> void* {
    return Of(*task).Add({.type = Type::kArray, .integer = static_cast<std::int64_t>(elements)});
  };
  functions.createInteger = [](const redisReadTask* task, long long number) -> void* {
    return Of(*task).Add({.type = Type::kInteger, .integer = number});
  };
  functions.createNil = [](const redisReadTask* task) -> void* {
    return Of(*task).Add({.type = Type::kNil});
  };
  functions.freeObject = [](void* /*reply*/) {};
  return functions;
}

void RedisReply::ReadFrom(redisReader& reader) {
  static redisReplyObjectFunctions functions = Functions();
  reader.fn = &functions;
  reader.privdata = this;
}

}  // namespace ratelimiter
