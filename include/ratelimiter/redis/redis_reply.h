#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <hiredis/read.h>

namespace ratelimiter {

// A reply of Redis's: one value, or an array and what is in it.
//
// To be used again and again: what it held gives its memory to what comes, so
// that reading a reply like the one before allocates nothing. Not thread-safe.
class RedisReply {
 public:
  enum class Type : std::uint8_t { kNone, kString, kStatus, kError, kInteger, kNil, kArray };

  // As if nothing had come.
  void Clear();

  Type type() const { return values_.empty() ? Type::kNone : values_.front().type; }
  // Of an integer; of an array how many elements it has.
  std::int64_t integer() const { return integer(0); }
  // Of a string, a status or an error.
  std::string_view text() const { return text(0); }

  // Whether it is an error that begins with `code`.
  bool IsError(std::string_view code) const;

  // Every value in the order in which Redis sent it: the reply itself comes
  // first, and an array before its elements.
  std::size_t size() const { return values_.size(); }
  Type type(std::size_t at) const { return values_[at].type; }
  std::int64_t integer(std::size_t at) const { return values_[at].integer; }
  std::string_view text(std::size_t at) const {
    return std::string_view(text_).substr(values_[at].text_begin, values_[at].text_size);
  }

  // Has `reader` read into this.
  void ReadFrom(redisReader& reader);

 private:
  struct Value {
    Type type = Type::kNone;
    std::int64_t integer = 0;
    std::size_t text_begin = 0;
    std::size_t text_size = 0;
  };

  static RedisReply& Of(const redisReadTask& task) {
    return *static_cast<RedisReply*>(task.privdata);
  }
  static redisReplyObjectFunctions Functions();
  // What hiredis takes for the object that stands for the value.
  void* Add(const Value& value);

  std::vector<Value> values_;
  std::string text_;
};

}  // namespace ratelimiter
