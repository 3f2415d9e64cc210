// What a command runs through a model to see its activations.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace neap {

struct CalibrationOptions {
  std::vector<std::string> files;  // as read_windows takes them; empty: text that the model writes itself
  std::int64_t samples = 0;        // windows; 0: all of the files, or of self-written text as many as the command says
  std::int64_t length = 2048;      // tokens of a window
  std::uint64_t seed = 42;         // of self-written text
};

}  // namespace neap
