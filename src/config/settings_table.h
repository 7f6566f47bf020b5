#pragma once

#include <vector>

#include "settings_values.h"

namespace ratelimiter {

// Every setting, in the order of --help. To add one: a member of Settings, a row here, and a
// row of docs/use/settings.md.
std::vector<Setting> SettingsTable();

}  // namespace ratelimiter
