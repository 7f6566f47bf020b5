#include "ratelimiter/config/redis_url.h"

#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include <fmt/format.h>

#include "ratelimiter/base/text.h"

namespace ratelimiter {
namespace {

static_assert(kMaxSocketPathBytes == sizeof(sockaddr_un::sun_path) - 1);

constexpr std::string_view kHidden = "…";

// The whole of `text` as a decimal number that fits T.
template <typename T>
std::optional<T> ParseNumber(std::string_view text) {
  T number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end) return std::nullopt;
  return number;
}

std::optional<std::string> PercentDecode(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    if (text.front() != '%') {
      result.push_back(text.front());
      text.remove_prefix(1);
      continue;
    }
    if (text.size() < 3) return std::nullopt;
    unsigned int byte = 0;
    const auto [rest, error] = std::from_chars(text.data() + 1, text.data() + 3, byte, 16);
    if (error != std::errc() || rest != text.data() + 3) return std::nullopt;
    result.push_back(static_cast<char>(byte));
    text.remove_prefix(3);
  }
  return result;
}

bool ParseUserInfo(std::string_view text, RedisUrl& url) {
  const std::size_t colon = text.find(':');
  const auto user = PercentDecode(text.substr(0, colon));
  if (!user.has_value()) return false;
  url.user = *user;
  if (colon == std::string_view::npos) return !user->empty();
  const auto password = PercentDecode(text.substr(colon + 1));
  if (!password.has_value() || password->empty()) return false;
  url.password = *password;
  return true;
}

std::optional<HostPort> ParseHostAndPort(std::string_view text, std::uint16_t default_port) {
  HostPort result = {.host = {}, .port = default_port};
  std::string_view rest;
  if (text.starts_with('[')) {
    const std::size_t bracket = text.find(']');
    if (bracket == std::string_view::npos) return std::nullopt;
    result.host = text.substr(1, bracket - 1);
    rest = text.substr(bracket + 1);
  } else {
    const std::size_t colon = std::min(text.find(':'), text.size());
    result.host = text.substr(0, colon);
    rest = text.substr(colon);
  }
  if (result.host.empty() || result.host.find_first_of(" \t\r\n/?#@,") != std::string::npos) {
    return std::nullopt;
  }
  if (rest.empty()) return result;
  if (!rest.starts_with(':')) return std::nullopt;
  const auto port = ParseNumber<std::uint16_t>(rest.substr(1));
  if (!port.has_value() || *port == 0) return std::nullopt;
  result.port = *port;
  return result;
}

bool ParseDatabase(std::string_view text, RedisUrl& url) {
  const auto number = ParseNumber<std::uint32_t>(text);
  url.database = number.value_or(0);
  return number.has_value();
}

// Takes the user and password off `text`. They end at the last '@': a password may hold one
// unescaped.
bool TakeUserInfo(std::string_view& text, RedisUrl& url) {
  const std::size_t at = text.rfind('@');
  if (at == std::string_view::npos) return true;
  const std::string_view user_info = text.substr(0, at);
  text.remove_prefix(at + 1);
  return ParseUserInfo(user_info, url);
}

// host[:port][/database]
bool ParseServer(std::string_view text, RedisUrl& url) {
  if (!TakeUserInfo(text, url)) return false;
  const std::size_t slash = std::min(text.find('/'), text.size());
  const auto server = ParseHostAndPort(text.substr(0, slash), url.port);
  if (!server.has_value()) return false;
  url.host = server->host;
  url.port = server->port;
  const std::string_view database = text.substr(std::min(slash + 1, text.size()));
  return database.empty() || ParseDatabase(database, url);
}

bool ParseTlsServer(std::string_view text, RedisUrl& url) {
  url.tls = true;
  return ParseServer(text, url);
}

// /path[?db=database]
bool ParseSocket(std::string_view text, RedisUrl& url) {
  constexpr std::string_view kDatabase = "?db=";
  if (!text.starts_with('/')) {
    // The path may hold an '@' too.
    const std::size_t at = text.rfind("@/");
    if (at == std::string_view::npos || !ParseUserInfo(text.substr(0, at), url)) return false;
    text.remove_prefix(at + 1);
  }
  if (const std::size_t query = text.find('?'); query != std::string_view::npos) {
    if (!text.substr(query).starts_with(kDatabase)) return false;
    if (!ParseDatabase(text.substr(query + kDatabase.size()), url)) return false;
    text = text.substr(0, query);
  }
  const auto path = PercentDecode(text);
  if (!path.has_value() || path->size() < 2 || path->size() > kMaxSocketPathBytes) return false;
  if (path->find('\0') != std::string::npos) return false;
  url.socket = *path;
  return true;
}

// host[:port],host[:port],…
bool ParseServers(std::string_view text, std::uint16_t default_port,
                  std::vector<HostPort>& servers) {
  while (true) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const auto server = ParseHostAndPort(text.substr(0, comma), default_port);
    if (!server.has_value()) return false;
    servers.push_back(*server);
    if (comma == text.size()) return true;
    text.remove_prefix(comma + 1);
  }
}

// host[:port],host[:port],…/master[/database]
bool ParseSentinels(std::string_view text, RedisUrl& url) {
  constexpr std::uint16_t kSentinelPort = 26379;
  if (!TakeUserInfo(text, url)) return false;
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return false;
  if (!ParseServers(text.substr(0, slash), kSentinelPort, url.sentinels)) return false;
  text.remove_prefix(slash + 1);
  const std::size_t end = std::min(text.find('/'), text.size());
  url.master = text.substr(0, end);
  // The characters that Sentinel accepts in a name.
  const bool named = !url.master.empty() && std::ranges::all_of(url.master, [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_';
  });
  return named && (end == text.size() || ParseDatabase(text.substr(end + 1), url));
}

// host[:port],host[:port],…[/0]
bool ParseCluster(std::string_view text, RedisUrl& url) {
  if (!TakeUserInfo(text, url)) return false;
  const std::size_t slash = std::min(text.find('/'), text.size());
  const std::string_view database = text.substr(std::min(slash + 1, text.size()));
  if (!ParseServers(text.substr(0, slash), url.port, url.cluster)) return false;
  return database.empty() || (ParseDatabase(database, url) && url.database == 0);
}

struct Scheme {
  std::string_view begin;
  bool (*parse)(std::string_view text, RedisUrl& url);
};

constexpr std::array<Scheme, 5> kSchemes = {{{"redis://", ParseServer},
                                             {"rediss://", ParseTlsServer},
                                             {"unix://", ParseSocket},
                                             {"redis-sentinel://", ParseSentinels},
                                             {"redis-cluster://", ParseCluster}}};

}  // namespace

std::optional<RedisUrl> ParseRedisUrl(std::string_view text) {
  for (const Scheme& scheme : kSchemes) {
    if (!text.starts_with(scheme.begin)) continue;
    RedisUrl url;
    if (!scheme.parse(text.substr(scheme.begin.size()), url)) return std::nullopt;
    return url;
  }
  return std::nullopt;
}

std::string_view WhyNotSupported(std::string_view text) {
  if (text.starts_with("rediss-sentinel://") || text.starts_with("rediss-cluster://")) {
    return "TLS is not supported with sentinels and Clusters";
  }
  if (text.starts_with("redis-cluster://")) {
    const std::size_t slash = text.rfind('/');
    const auto database = ParseNumber<std::uint32_t>(text.substr(slash + 1));
    if (database.value_or(0) != 0 && ParseRedisUrl(text.substr(0, slash)).has_value()) {
      return "a Redis Cluster has only database 0";
    }
  }
  return {};
}

std::string WithoutPassword(std::string_view url) {
  constexpr auto kNone = std::string_view::npos;
  constexpr std::string_view kScheme = "://";
  const std::size_t begin = url.find(kScheme);
  if (begin == kNone) return std::string(url);

  // The same '@' as ParseRedisUrl finds: the path of a socket may hold one too.
  const std::string_view rest = url.substr(begin + kScheme.size());
  const bool is_socket = url.starts_with("unix://");
  const std::size_t at =
      is_socket && rest.starts_with('/') ? kNone : rest.rfind(is_socket ? "@/" : "@");
  const std::size_t colon = rest.find(':');
  if (at == kNone || colon > at) return std::string(url);
  return fmt::format("{}{}{}", url.substr(0, url.size() - rest.size() + colon + 1), kHidden,
                     rest.substr(at));
}

// A password may stand before '@'; where '@' is missing, after a ':' that no port follows;
// or in a query, where other clients have it.
std::string WithoutSecrets(std::string_view rejected) {
  constexpr auto kNone = std::string_view::npos;
  const std::size_t query = rejected.find('?');
  if (query != kNone) return WithoutSecrets(rejected.substr(0, query)).append("?").append(kHidden);
  const std::size_t at = rejected.rfind('@');
  if (at != kNone) return std::string(kHidden) + Printable(rejected.substr(at));
  const std::size_t scheme = rejected.find("://");
  const std::size_t colon = rejected.find(':', scheme == kNone ? 0 : scheme + 3);
  if (colon == kNone || rejected.find_first_not_of("0123456789/", colon + 1) == kNone) {
    return Printable(rejected);
  }
  return Printable(rejected.substr(0, colon + 1)).append(kHidden);
}

}  // namespace ratelimiter
