// The activations of every calibration window at one place of the network. They stay in memory up to
// a budget; beyond it they lie in a nameless scratch file, read and written a window at a time, so
// that memory does not grow with the amount of calibration text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "neap/matrix.h"
#include "neap/model.h"

namespace neap {

class Activations {
 public:
  // rows: tokens of each window; cols: the widest that will be stored. `precision` is how values are kept: fp32, or rounded to bf16 (lossless
  // for what only a bf16 product will read). budget: bytes of memory; `scratch` is the directory of the
  // file that takes over when all windows need more. Throws Error(io).
  Activations(std::vector<std::size_t> rows, std::size_t cols, Precision precision,
              std::uint64_t budget, const std::string& scratch);
  ~Activations();
  Activations(const Activations&) = delete;
  Activations& operator=(const Activations&) = delete;

  // values: (rows of that window, up to cols). What is loaded must be as wide as what was stored.
  void store(std::size_t window, MatrixView<const float> values);
  void load(std::size_t window, MatrixView<float> values) const;

 private:
  std::size_t bytes_of(std::size_t window) const { return rows_[window] * cols_ * element_; }

  std::vector<std::size_t> rows_;
  std::vector<std::uint64_t> offsets_;  // bytes, one per window and the end
  std::size_t cols_, element_;
  std::vector<std::byte> memory_;
  int file_ = -1;
  std::string scratch_;
};

}  // namespace neap
