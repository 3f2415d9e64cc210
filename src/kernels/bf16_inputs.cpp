#include "kernels/bf16_inputs.h"

#include <algorithm>
#include <cstring>

#include "base/parallel.h"

namespace neap {

void Bf16Inputs::round(std::size_t block, MatrixView<const float> x, Isa isa) {
  const Bf16Kernels& kernels = bf16_kernels(isa);
  isa_ = isa;
  tokens_ = x.rows;
  cols_ = x.cols;
  block_ = block;
  stride_ = (cols_ + block - 1) / block * block;
  bytes_ = kernels.fp32_inputs ? sizeof(float) : sizeof(Bf16);
  std::byte* values = values_.bytes(tokens_ * stride_ * bytes_);
  const std::size_t filled = (cols_ + 3) / 4 * 4;
  constexpr std::size_t kRows = 16;
  parallel_for((tokens_ + kRows - 1) / kRows, [&](std::size_t tile) {
    for (std::size_t t = tile * kRows; t < std::min(tokens_, (tile + 1) * kRows); ++t) {
      std::byte* to = values + t * stride_ * bytes_;
      kernels.round(x.row(t), cols_, to);
      std::memset(to + filled * bytes_, 0, (stride_ - filled) * bytes_);
    }
  });
}

Bf16Tokens Bf16Inputs::view(std::size_t token, std::size_t column) const {
  return {values_.data() + (token * stride_ + column) * bytes_, stride_};
}

}  // namespace neap
