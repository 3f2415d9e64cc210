// What a command that looks at activations runs through a model: the user's text, or the model's own.
#pragma once

#include <cstdint>

#include "neap/calibration.h"
#include "neap/calibration_options.h"
#include "neap/checkpoint.h"
#include "neap/model.h"
#include "neap/progress.h"

namespace neap {

// How a model writes where there are no files.
struct SelfWriting {
  std::int64_t windows = 24;  // where CalibrationOptions::samples is 0
  Precision precision = Precision::bf16;
  std::uint64_t max_memory = 0;  // bytes; 0: half of the machine's
  ProgressCallback progress;
};

// Throws as read_windows and write_windows do.
TokenWindows calibration_windows(const Checkpoint& checkpoint, const CalibrationOptions& text, const SelfWriting& writing);

// `asked`, or, if that is 0, half of the machine's memory; in bytes.
std::uint64_t memory_limit(std::uint64_t asked);

}  // namespace neap
