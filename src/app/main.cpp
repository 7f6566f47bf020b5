#include <iostream>

#include "daemon.h"
#include "ratelimiter/config/settings.h"

int main(int argc, char** argv) {
  const ratelimiter::SettingsResult settings = ratelimiter::ReadSettings(argc, argv);
  if (settings.settings.has_value()) return ratelimiter::RunDaemon(*settings.settings);
  (settings.exit_code == ratelimiter::kExitOk ? std::cout : std::cerr) << settings.message;
  return settings.exit_code;
}
