// How long work reports on itself. The library never prints: whoever calls decides what to show.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace neap {

struct Progress {
  std::string stage;       // "calibration text", "block 3/30 gate_proj up_proj", ...
  std::int64_t done = 0;   // units finished of `total`, monotone within one run of a stage
  std::int64_t total = 0;  // 0: unknown
  std::string note = {};   // a finished fact worth a line of its own, or empty
};

// Called from the thread that called the library, never concurrently. Returning false cancels: the
// library throws Error(cancelled) at the next safe point and leaves no partial output.
using ProgressCallback = std::function<bool(const Progress&)>;

}  // namespace neap
