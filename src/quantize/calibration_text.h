// What a command that looks at activations runs through a model: the user's text, or the model's own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "neap/calibration.h"
#include "neap/checkpoint.h"
#include "neap/model.h"
#include "neap/progress.h"

namespace neap {

struct CalibrationText {
  std::vector<std::string> files;   // empty: text that the model writes itself
  std::int64_t samples = 0;         // windows; 0: all of the files, or self_written
  std::int64_t self_written = 0;
  std::int64_t length = 0;          // tokens of a window
  std::uint64_t seed = 0;           // of self-written text
  Precision precision = Precision::bf16;
  std::uint64_t memory = 0;         // bytes that the model may take while it writes
  ProgressCallback progress;
};

// Throws as read_windows and write_windows do.
TokenWindows calibration_windows(const Checkpoint& checkpoint, const CalibrationText& text);

// `asked`, or, if that is 0, half of the machine's memory; in bytes.
std::uint64_t memory_limit(std::uint64_t asked);

}  // namespace neap
