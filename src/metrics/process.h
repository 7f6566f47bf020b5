#pragma once

namespace ratelimiter {

// What Linux tells of this process, in /proc/self. What it does not tell is 0.
struct ProcessFigures {
  double cpu_seconds = 0;
  double resident_bytes = 0;
  double virtual_bytes = 0;
  double threads = 0;
  // Since the epoch.
  double started_seconds = 0;
};
ProcessFigures ReadProcess();

// File descriptors that are open now, and that may be.
double OpenFds();
double MaxFds();

}  // namespace ratelimiter
