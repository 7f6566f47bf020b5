// A load of unary gRPC calls on a server of this machine, for bench.py. It speaks HTTP/2 without
// TLS on one thread and does nothing else, so that it takes as little as can be of the cores that
// it shares with the server, whatever messages are sent. Of two kinds:
//
// - a closed loop of --connections × --streams callers, each of whom makes the next call when one
//   is answered. Who is refused with RESOURCE_EXHAUSTED waits as long as the RetryInfo says that
//   comes with it, and calls anew;
// - with --rate an open loop: so many calls a second are due, at random intervals that are the same
//   in every run, and are sent when they are, whatever the answers do, on the connections in turn.
//   No call waits for a stream, but for what the server's own maximum of them makes it wait.
//
// --port and --method name what is called, --bodies a file of the messages to send, --order how
// they follow each other, --calls how many calls are made; in the closed loop those that
// were refused so do not count, but in by_status.
//
// Prints a JSON object: calls; ok; by_status, calls by grpc-status ("none": the answer had no such
// status, or not HTTP's 200); seconds and calls_per_second, from the first call to the last answer;
// latency_us, from the write that a call was a part of, in the open loop from when it was due, to
// the read that ended its answer; in the open loop late_us, from when calls were due to their
// write. Ends with 1 if a connection ends before, or nothing happens for half a minute.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <deque>
#include <exception>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <list>
#include <memory>
#include <numeric>
#include <optional>
#include <queue>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <absl/strings/escaping.h>
#include <nghttp2/nghttp2.h>
#include <nlohmann/json.hpp>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace ratelimiter {
namespace {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;

constexpr Clock::duration kPatience = std::chrono::seconds(30);
// How long before the first call of an open loop its connections are made, so that no call waits
// for what the two ends of one tell each other first.
constexpr Clock::duration kSettling = std::chrono::milliseconds(100);
// So large that no answer waits for a window.
constexpr std::int32_t kWindow = 0x7fffffff;
constexpr std::size_t kStatusCodes = 17;  // gRPC's, 0 to 16.
constexpr std::size_t kNoStatus = kStatusCodes;
constexpr std::size_t kResourceExhausted = 8;

struct Options {
  std::uint16_t port = 0;
  std::string method;  // Such as /limiter.RateLimiter/AllowRequest
  std::uint32_t connections = 1;
  std::uint32_t streams = 1;   // Of each connection, in a closed loop.
  std::optional<double> rate;  // Calls a second of an open loop.
  std::uint64_t calls = 0;
  std::string bodies;  // A file.
};

[[noreturn]] void ThrowErrno(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

// Returns what a function of nghttp2 gave; throws if that is an error.
template <typename Number>
Number Checked(Number result) {
  if (result < 0) throw std::runtime_error(nghttp2_strerror(static_cast<int>(result)));
  return result;
}

// The length of a message, as it stands before it: the highest byte first.
std::size_t LengthOf(std::string_view prefix) {
  std::size_t length = 0;
  for (const char byte : prefix) length = (length << 8) | static_cast<unsigned char>(byte);
  return length;
}

// The bodies of calls, in the order in which they are sent: that of the file again and again, or a
// random one that is the same in every run.
class Bodies {
 public:
  // The file has messages, each behind its length in four bytes. Throws if it does not.
  Bodies(const std::string& path, bool random) : random_(random) {
    constexpr std::size_t kPrefix = 4;
    std::ifstream file(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    for (std::string_view rest = text; !rest.empty();) {
      const std::size_t size = kPrefix + LengthOf(rest.substr(0, kPrefix));
      if (rest.size() < size) throw std::runtime_error(path + ": the last message is cut off");
      // Only gRPC's flag is missing that says: not compressed.
      (bodies_ += '\0') += rest.substr(0, size);
      begins_.push_back(bodies_.size());
      rest.remove_prefix(size);
    }
    if (Count() == 0) throw std::runtime_error(path + ": no message is there");
  }

  // Valid as long as this is.
  std::string_view Next() {
    const std::size_t i = random_ ? Uniform(0, Count() - 1)(engine_) : next_++ % Count();
    return std::string_view(bodies_).substr(begins_[i], begins_[i + 1] - begins_[i]);
  }

 private:
  using Uniform = std::uniform_int_distribution<std::size_t>;

  std::size_t Count() const { return begins_.size() - 1; }

  std::string bodies_;
  std::vector<std::size_t> begins_{0};  // And the end of the last.
  bool random_;
  std::mt19937_64 engine_;
  std::size_t next_ = 0;
};

// When the calls of an open loop are due: at a rate, by a Poisson process that is the same in every
// run. That is how calls of many callers come who know nothing of each other, a few at once and
// then none for a while; evenly spaced ones would hardly ever wait for each other in the server.
class Pace {
 public:
  // `rate`: calls a second. The first is due at `begin`.
  Pace(double rate, TimePoint begin) : due_(begin), interval_(rate) {}

  // When the next call is.
  TimePoint due() const { return due_; }

  // Goes on to the call after that.
  void Advance() {
    const std::chrono::duration<double> interval(interval_(engine_));
    due_ += std::chrono::duration_cast<Clock::duration>(interval);
  }

 private:
  TimePoint due_;
  std::exponential_distribution<double> interval_;  // In seconds.
  std::mt19937_64 engine_{1};                       // Not the numbers that messages are chosen by.
};

// Times that were measured, to the microsecond.
class Times {
 public:
  explicit Times(std::size_t room) { us_.reserve(room); }

  void Add(Clock::duration time) {
    const auto us = std::chrono::duration_cast<std::chrono::microseconds>(time);
    us_.push_back(static_cast<std::uint32_t>(us.count()));
  }

  std::size_t size() const { return us_.size(); }

  // There must be some.
  nlohmann::ordered_json Report() {
    std::ranges::sort(us_);
    const auto count = static_cast<double>(us_.size());
    const auto percentile = [this, count](double fraction) {
      return us_[static_cast<std::size_t>(std::ceil(fraction * count)) - 1];
    };
    return {{"mean", std::accumulate(us_.begin(), us_.end(), 0.0) / count},
            {"p50", percentile(0.5)},
            {"p90", percentile(0.9)},
            {"p99", percentile(0.99)},
            {"p999", percentile(0.999)},
            {"max", us_.back()}};
  }

 private:
  std::vector<std::uint32_t> us_;
};

// What all connections send, and what came of it.
class Load {
 public:
  Load(const Options& options, Bodies bodies)
      : bodies_(std::move(bodies)),
        calls_(options.calls),
        waits_(options.calls),
        lateness_(options.rate ? options.calls : 0) {}

  // Whether calls are left to begin.
  bool more() const { return begun_ < calls_; }

  // The body of the next call, of which there must be one.
  std::string_view Begin() {
    ++begun_;
    return bodies_.Next();
  }

  // In an open loop: a call was sent so long after it was due.
  void Sent(Clock::duration lateness) { lateness_.Add(lateness); }

  // A call was refused that is to be made anew.
  void Shed() {
    --begun_;
    ++by_status_[kResourceExhausted];
  }

  // `status`: a code of gRPC's, or kNoStatus.
  void End(std::size_t status, Clock::duration wait) {
    ++by_status_[status];
    waits_.Add(wait);
  }

  bool over() const { return waits_.size() == calls_; }

  // The result as JSON, once it is over.
  nlohmann::ordered_json Report(std::chrono::duration<double> duration) {
    nlohmann::ordered_json by_status = nlohmann::ordered_json::object();
    for (std::size_t code = 0; code < by_status_.size(); ++code) {
      const std::string name = code == kNoStatus ? "none" : std::to_string(code);
      if (by_status_[code] > 0) by_status[name] = by_status_[code];
    }
    nlohmann::ordered_json report{
        {"calls", calls_},
        {"ok", by_status_[0]},
        {"by_status", by_status},
        {"seconds", duration.count()},
        {"calls_per_second", static_cast<double>(calls_) / duration.count()},
        {"latency_us", waits_.Report()}};
    if (lateness_.size() > 0) report["late_us"] = lateness_.Report();
    return report;
  }

 private:
  Bodies bodies_;
  std::uint64_t calls_;
  std::uint64_t begun_ = 0;
  std::array<std::uint64_t, kStatusCodes + 1> by_status_{};
  Times waits_;  // Of each call that has ended.
  Times lateness_;
};

// One connection with its calls in flight. It must stay where it is.
class Connection {
 public:
  // Connects. `load` must outlive it.
  Connection(const Options& options, Load& load);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() { close(socket_); }

  int socket() const { return socket_; }
  // Callers who wait for an answer, or until they may call anew.
  std::size_t callers() const { return streams_.size() - free_.size() + rests_.size(); }

  // When the next of those who wait to call anew may.
  std::optional<TimePoint> next() const {
    return rests_.empty() ? std::nullopt : std::optional(rests_.top());
  }
  // Those who may call anew do not wait any more.
  void EndRests(TimePoint now);

  // Begins a call whose wait counts from `begin`. Flush sends it.
  void Begin(std::string_view body, TimePoint begin);
  // Writes what there is to send, as much of it as the system takes.
  void Flush();
  // Reads all that has arrived, and ends the calls whose answer has.
  void Receive();

 private:
  // A call in flight, or room for one.
  struct Stream {
    std::string_view unsent;  // The rest of the body.
    TimePoint begin;
    bool http_ok = false;
    std::size_t status = kNoStatus;
    Clock::duration retry_after{0};
  };
  struct SessionDeleter {
    void operator()(nghttp2_session* session) const { nghttp2_session_del(session); }
  };

  // Gathers what the session has to send. False: nothing.
  bool Gather();
  // False: the system does not take all of it now.
  bool Write();
  Stream& StreamOf(std::int32_t id) {
    return *static_cast<Stream*>(nghttp2_session_get_stream_user_data(session_.get(), id));
  }

  // nghttp2's callbacks; `self` is the connection.
  static ssize_t ReadBody(nghttp2_session* session, std::int32_t id, std::uint8_t* buffer,
                          std::size_t size, std::uint32_t* flags, nghttp2_data_source* source,
                          void* self);
  static int OnHeader(nghttp2_session* session, const nghttp2_frame* frame,
                      const std::uint8_t* name, std::size_t name_size, const std::uint8_t* value,
                      std::size_t value_size, std::uint8_t flags, void* self);
  static int OnStreamClose(nghttp2_session* session, std::int32_t id, std::uint32_t error,
                           void* self);

  Load& load_;
  const bool retries_;
  const std::string method_;
  const std::string authority_;
  const std::array<nghttp2_nv, 6> headers_;
  int socket_;
  std::unique_ptr<nghttp2_session, SessionDeleter> session_;
  std::deque<Stream> streams_;  // As many as have ever been in flight at once. They stay in place.
  std::vector<Stream*> free_;
  std::priority_queue<TimePoint, std::vector<TimePoint>, std::greater<>> rests_;
  std::string output_;
  std::size_t written_ = 0;  // Of output_.
  TimePoint read_at_;        // When what is being looked at was read.
};

std::uint8_t* Bytes(std::string_view text) {
  // nghttp2 asks for bytes that are not constant and changes none.
  return reinterpret_cast<std::uint8_t*>(const_cast<char*>(text.data()));
}

// Both must outlive the sessions that it is sent by.
nghttp2_nv Header(std::string_view name, std::string_view value) {
  return {Bytes(name), Bytes(value), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

std::string_view Text(const std::uint8_t* bytes, std::size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

// What the details of a status say to wait, which come as base64. Zero: nothing.
Clock::duration RetryAfter(std::string_view details) {
  std::string bytes;
  google::rpc::Status status;
  google::rpc::RetryInfo retry;
  if (!absl::Base64Unescape({details.data(), details.size()}, &bytes) ||
      !status.ParseFromString(bytes))
    return {};
  for (const auto& detail : status.details()) {
    if (!detail.UnpackTo(&retry)) continue;
    return std::chrono::seconds(retry.retry_delay().seconds()) +
           std::chrono::nanoseconds(retry.retry_delay().nanos());
  }
  return {};
}

int Connect(std::uint16_t port) {
  const int created = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (created < 0) ThrowErrno("socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int on = 1;
  if (connect(created, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      setsockopt(created, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
      fcntl(created, F_SETFL, O_NONBLOCK) != 0) {
    ThrowErrno("connect");
  }
  return created;
}

Connection::Connection(const Options& options, Load& load)
    : load_(load),
      retries_(!options.rate),
      method_(options.method),
      authority_("127.0.0.1:" + std::to_string(options.port)),
      headers_{Header(":method", "POST"), Header(":scheme", "http"),
               Header(":path", method_),  Header(":authority", authority_),
               Header("te", "trailers"),  Header("content-type", "application/grpc")},
      socket_(Connect(options.port)) {
  nghttp2_session_callbacks* callbacks = nullptr;
  Checked(nghttp2_session_callbacks_new(&callbacks));
  nghttp2_session_callbacks_set_on_header_callback(callbacks, OnHeader);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, OnStreamClose);
  nghttp2_session* session = nullptr;
  const int created = nghttp2_session_client_new(&session, callbacks, this);
  nghttp2_session_callbacks_del(callbacks);
  Checked(created);
  session_.reset(session);

  const std::array<nghttp2_settings_entry, 2> settings{
      {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
       {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, std::uint32_t{kWindow}}}};
  Checked(nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings.data(), settings.size()));
  Checked(nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, kWindow));
}

void Connection::Begin(std::string_view body, TimePoint begin) {
  if (free_.empty()) free_.push_back(&streams_.emplace_back());
  Stream& stream = *free_.back();
  free_.pop_back();
  stream = {.unsent = body, .begin = begin};
  nghttp2_data_provider provider{.source = {.ptr = &stream}, .read_callback = ReadBody};
  Checked(nghttp2_submit_request(session_.get(), nullptr, headers_.data(), headers_.size(),
                                 &provider, &stream));
}

void Connection::EndRests(TimePoint now) {
  while (!rests_.empty() && rests_.top() <= now) rests_.pop();
}

void Connection::Flush() {
  while (Write() && Gather()) {
  }
}

bool Connection::Gather() {
  output_.clear();
  written_ = 0;
  const std::uint8_t* frame = nullptr;
  while (const auto size = Checked(nghttp2_session_mem_send(session_.get(), &frame))) {
    output_ += Text(frame, static_cast<std::size_t>(size));
  }
  return !output_.empty();
}

bool Connection::Write() {
  while (written_ < output_.size()) {
    const auto size = send(socket_, &output_[written_], output_.size() - written_, MSG_NOSIGNAL);
    if (size < 0 && errno == EAGAIN) return false;
    if (size < 0) ThrowErrno("send");
    written_ += static_cast<std::size_t>(size);
  }
  return true;
}

void Connection::Receive() {
  std::array<std::uint8_t, std::size_t{1} << 16> input;  // NOLINT(*-member-init): it is read into.
  while (true) {
    const auto size = recv(socket_, input.data(), input.size(), 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size < 0) ThrowErrno("recv");
    if (size == 0) throw std::runtime_error("the server has closed a connection");
    read_at_ = Clock::now();
    const auto read = static_cast<std::size_t>(size);
    Checked(nghttp2_session_mem_recv(session_.get(), input.data(), read));
    if (read < input.size()) return;  // That was all: what comes later is an event of its own.
  }
}

ssize_t Connection::ReadBody(nghttp2_session* /*session*/, std::int32_t /*id*/,
                             std::uint8_t* buffer, std::size_t size, std::uint32_t* flags,
                             nghttp2_data_source* source, void* /*self*/) {
  std::string_view& unsent = static_cast<Stream*>(source->ptr)->unsent;
  const std::size_t count = std::min(size, unsent.size());
  std::ranges::copy(unsent.substr(0, count), buffer);
  unsent.remove_prefix(count);
  if (unsent.empty()) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(count);
}

int Connection::OnHeader(nghttp2_session* /*session*/, const nghttp2_frame* frame,
                         const std::uint8_t* name, std::size_t name_size, const std::uint8_t* value,
                         std::size_t value_size, std::uint8_t /*flags*/, void* self) {
  const std::string_view header = Text(name, name_size);
  const std::string_view text = Text(value, value_size);
  Stream& stream = static_cast<Connection*>(self)->StreamOf(frame->hd.stream_id);
  if (header == ":status") {
    stream.http_ok = text == "200";
  } else if (header == "grpc-status") {
    std::size_t code = kNoStatus;
    std::from_chars(text.data(), text.data() + text.size(), code);
    stream.status = std::min(code, kNoStatus);
  } else if (header == "grpc-status-details-bin") {
    stream.retry_after = RetryAfter(text);
  }
  return 0;
}

int Connection::OnStreamClose(nghttp2_session* /*session*/, std::int32_t id,
                              std::uint32_t /*error*/, void* self) {
  auto& connection = *static_cast<Connection*>(self);
  Stream& stream = connection.StreamOf(id);
  const std::size_t status = stream.http_ok ? stream.status : kNoStatus;
  if (status == kResourceExhausted && connection.retries_) {
    connection.load_.Shed();
    connection.rests_.push(connection.read_at_ + stream.retry_after);
  } else {
    connection.load_.End(status, connection.read_at_ - stream.begin);
  }
  connection.free_.push_back(&stream);
  return 0;
}

// Puts the load on all connections, by one of the two loops.
class Generator {
 public:
  // Connects. `load` must outlive it.
  Generator(const Options& options, Load& load);
  Generator(const Generator&) = delete;
  Generator& operator=(const Generator&) = delete;
  ~Generator() { close(poll_); }

  // Sends all calls and waits for their answers. Returns how long that took.
  std::chrono::duration<double> Run();

 private:
  // Waits until something can be read or written, and does that.
  void Exchange();
  // How long to wait for that: no longer than until the next call is due, of an open loop
  // or by one who was refused.
  timespec Timeout() const;
  // In a closed loop: begins as many calls as there are callers for.
  void Fill(Connection& connection);
  // In a closed loop: sends the calls of those who have waited long enough.
  void CallAnew();
  // In an open loop: sends the calls that are due.
  void SendDue();

  // When the next call is due, if one is to be.
  std::optional<TimePoint> NextDue() const;

  Load& load_;
  const std::size_t streams_;  // Of a connection, in a closed loop.
  int poll_;
  std::list<Connection> connections_;
  std::list<Connection>::iterator turn_;  // Whose the next call of an open loop is.
  std::optional<Pace> pace_;              // In an open loop.
};

Generator::Generator(const Options& options, Load& load)
    : load_(load), streams_(options.streams), poll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (poll_ < 0) ThrowErrno("epoll_create1");
  for (std::uint32_t i = 0; i < options.connections; ++i) {
    Connection& connection = connections_.emplace_back(options, load);
    epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLET, .data = {.ptr = &connection}};
    if (epoll_ctl(poll_, EPOLL_CTL_ADD, connection.socket(), &event) != 0) ThrowErrno("epoll_ctl");
  }
  turn_ = connections_.begin();
  if (options.rate) {
    // Waits end when they should, not up to 50 µs later as the system has it by default.
    if (prctl(PR_SET_TIMERSLACK, 1) != 0) ThrowErrno("prctl");
    pace_.emplace(*options.rate, Clock::now() + kSettling);
  }
}

std::chrono::duration<double> Generator::Run() {
  const TimePoint begin = pace_ ? pace_->due() : Clock::now();
  while (!load_.over()) {
    Exchange();
    if (pace_) {
      SendDue();
    } else {
      CallAnew();
    }
  }
  return Clock::now() - begin;
}

void Generator::Exchange() {
  std::array<epoll_event, 64> events{};
  const timespec timeout = Timeout();
  const int count = epoll_pwait2(poll_, events.data(), events.size(), &timeout, nullptr);
  if (count < 0 && errno != EINTR) ThrowErrno("epoll_pwait2");
  if (count == 0 && !NextDue()) throw std::runtime_error("nothing happens for half a minute");
  for (int i = 0; i < count; ++i) {
    auto& connection = *static_cast<Connection*>(events[static_cast<std::size_t>(i)].data.ptr);
    connection.Receive();
    if (!pace_) Fill(connection);
    connection.Flush();
  }
}

timespec Generator::Timeout() const {
  Clock::duration timeout = kPatience;
  if (const auto due = NextDue()) timeout = std::max(*due - Clock::now(), Clock::duration::zero());
  const auto seconds = std::chrono::floor<std::chrono::seconds>(timeout);
  return {.tv_sec = seconds.count(),
          .tv_nsec = std::chrono::nanoseconds(timeout - seconds).count()};
}

std::optional<TimePoint> Generator::NextDue() const {
  if (!load_.more()) return std::nullopt;
  if (pace_) return pace_->due();
  std::optional<TimePoint> earliest;
  for (const Connection& connection : connections_) {
    const auto next = connection.next();
    if (next && (!earliest || *next < *earliest)) earliest = next;
  }
  return earliest;
}

void Generator::CallAnew() {
  const TimePoint now = Clock::now();
  for (Connection& connection : connections_) {
    if (!connection.next() || *connection.next() > now) continue;
    connection.EndRests(now);
    Fill(connection);
    connection.Flush();
  }
}

void Generator::Fill(Connection& connection) {
  const TimePoint now = Clock::now();
  while (load_.more() && connection.callers() < streams_) connection.Begin(load_.Begin(), now);
}

void Generator::SendDue() {
  const TimePoint now = Clock::now();
  for (; load_.more() && pace_->due() <= now; pace_->Advance()) {
    turn_->Begin(load_.Begin(), pace_->due());
    load_.Sent(Clock::now() - pace_->due());
    turn_->Flush();
    if (++turn_ == connections_.end()) turn_ = connections_.begin();
  }
}
int Main(int argc, char** argv) {
  CLI::App app("Puts a load of gRPC calls on a server of this machine.");
  Options options;
  std::string order = "turns";
  app.add_option("--port", options.port)->required();
  app.add_option("--method", options.method, "such as /limiter.RateLimiter/AllowRequest")
      ->required();
  app.add_option("--connections", options.connections)->check(CLI::Range(1, 1'000));
  CLI::Option* const streams =
      app.add_option("--streams", options.streams, "calls in flight on each connection")
          ->check(CLI::Range(1, 10'000));
  app.add_option("--rate", options.rate, "calls a second, whatever the answers do")
      ->check(CLI::Range(1, 1'000'000))
      ->excludes(streams);
  app.add_option("--calls", options.calls)->required()->check(CLI::Range(1, 100'000'000));
  app.add_option("--bodies", options.bodies,
                 "a file of messages, each behind its length in four bytes")
      ->required();
  app.add_option("--order", order, "in which they are sent: turns, or random with a fixed seed")
      ->check(CLI::IsMember({"turns", "random"}));
  CLI11_PARSE(app, argc, argv);

  Load load(options, Bodies(options.bodies, order == "random"));
  const std::chrono::duration<double> duration = Generator(options, load).Run();
  std::cout << load.Report(duration) << '\n';
  return 0;
}

}  // namespace
}  // namespace ratelimiter

int main(int argc, char** argv) {
  try {
    return ratelimiter::Main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "grpc_load: " << error.what() << '\n';
    return 1;
  }
}
