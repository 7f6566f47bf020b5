#pragma once

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "config/settings_table.h"
#include "ratelimiter/config/settings.h"

namespace ratelimiter::testing {

// Unsets every setting, and restores the environment at the end.
// NOLINTBEGIN(concurrency-mt-unsafe): no test here has a second thread.
class Environment {
 public:
  Environment() {
    for (const Setting& setting : SettingsTable()) {
      const std::string name(setting.name);
      if (const char* value = std::getenv(name.c_str()); value != nullptr) before_[name] = value;
      unsetenv(name.c_str());
    }
  }
  ~Environment() {
    for (const Setting& setting : SettingsTable()) unsetenv(std::string(setting.name).c_str());
    for (const auto& [name, value] : before_) Set(name, value);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  void Set(const std::string& name, const std::string& value) {
    setenv(name.c_str(), value.c_str(), /*overwrite=*/1);
  }

 private:
  std::map<std::string, std::string> before_;
};
// NOLINTEND(concurrency-mt-unsafe)

inline SettingsResult Read(const std::vector<std::string>& flags = {}) {
  std::vector<const char*> arguments = {"ratelimiterd"};
  for (const std::string& flag : flags) arguments.push_back(flag.c_str());
  return ReadSettings(static_cast<int>(arguments.size()), arguments.data());
}

}  // namespace ratelimiter::testing
