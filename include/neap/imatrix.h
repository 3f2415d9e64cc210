// Importance matrices, as llama.cpp's tools exchange them: how large the inputs of each weight are on calibration text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "neap/calibration.h"
#include "neap/calibration_options.h"
#include "neap/checkpoint.h"
#include "neap/progress.h"

namespace neap {

struct ImatrixOptions {
  CalibrationOptions calibration;  // 24 windows of self-written text
  std::string output;              // a file; one that is there is replaced
  Precision precision = Precision::bf16;
  int threads = 0;                 // 0: OpenMP's default
  std::uint64_t max_memory = 0;    // bytes; 0: half of the machine's
  ProgressCallback progress;
};

struct ImatrixReport {
  std::vector<TokenWindows::Source> calibration;
  std::int64_t windows = 0, tokens = 0;
  std::int64_t weights = 0;  // entries of the file: every linear layer of the model's blocks
  double seconds = 0;
};

// Runs the full-precision model over the text and writes what llama-imatrix would: for each linear layer of its blocks the
// squares of its inputs, summed over tokens. Throws Error; then, and when the progress callback cancels, `output` is as it was.
// Same checkpoint, text and options: the same bytes, at any thread count.
ImatrixReport make_imatrix(const Checkpoint& checkpoint, const ImatrixOptions& options);

}  // namespace neap
