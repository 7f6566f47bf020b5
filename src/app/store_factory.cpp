#include "store_factory.h"

#include <string>
#include <utility>

#include "ratelimiter/memory/memory_token_bucket.h"
#include "ratelimiter/redis/redis_token_bucket.h"

namespace ratelimiter {
namespace {

RedisServer ServerOf(const Settings& settings) {
  const RedisUrl& url = settings.redis_url;
  return {.host = url.host,
          .port = url.port,
          .socket = url.socket,
          .sentinels = url.sentinels,
          .master = url.master,
          .sentinel_password = settings.redis_sentinel_password,
          .cluster = url.cluster,
          .user = url.user,
          .password = url.password,
          .password_file = settings.redis_password_file,
          .database = url.database};
}

absl::StatusOr<std::unique_ptr<TokenBucketStore>> MakeRedis(const Settings& settings,
                                                            const Clock& clock, Metrics& metrics,
                                                            const std::shared_ptr<Logger>& logger) {
  RedisServer server = ServerOf(settings);
  if (settings.redis_url.tls) {
    auto tls = TlsContext::Create({.ca_file = settings.redis_tls_ca,
                                   .certificate_file = settings.redis_tls_cert,
                                   .key_file = settings.redis_tls_key,
                                   .server_name = settings.redis_tls_server_name});
    if (!tls.ok()) return tls.status();
    server.tls = *std::move(tls);
  }
  return std::make_unique<RedisTokenBucket>(
      RedisOptions{
          .server = std::move(server),
          .timeout = settings.redis_timeout,
          .pool_size = settings.redis_pool_size,
          .max_connection_age = settings.redis_max_connection_age,
          .key_prefix = settings.key_prefix,
          .deny_cache_max_age = settings.deny_cache_max_age,
          .deny_cache_size = settings.deny_cache_size,
          .on_breaker =
              [logger](bool open, const std::string& message) {
                logger->Limited(LogKind::kBreaker, open ? spdlog::level::warn : spdlog::level::info,
                                "{}", message);
              },
          .on_evicting = [logger](const std::string& message) { logger->warn("{}", message); }},
      metrics, clock);
}

}  // namespace

absl::StatusOr<std::unique_ptr<TokenBucketStore>> MakeStore(const Settings& settings,
                                                            const Clock& clock, Metrics& metrics,
                                                            const std::shared_ptr<Logger>& logger) {
  switch (settings.store) {
    case StoreKind::kMemory:
      return std::make_unique<MemoryTokenBucket>(settings.memory_max_buckets, clock);
    case StoreKind::kRedis:
      break;
  }
  return MakeRedis(settings, clock, metrics, logger);
}

void WarnOfStore(const Settings& settings, Logger& logger) {
  if (settings.store != StoreKind::kMemory) return;
  logger.warn("STORE=memory: limits are not shared with other instances");
}

}  // namespace ratelimiter
