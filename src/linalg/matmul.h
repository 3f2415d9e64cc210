// The forward pass' matrix products, on oneDNN: fp32 or bf16 operands, fp32 sums and results.
// Everything is cut into tiles that run on one thread each, so nothing depends on the thread count.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "neap/matrix.h"

namespace neap {

// How the two operands of a product lie in memory.
enum class Operand {
  f32,
  bf16,
  bf16_in_f32,  // rounded to bf16, kept as fp32: for machines that cannot multiply bf16
};

// bf16 where this machine has AVX512-BF16 or AMX, else bf16_in_f32.
Operand bf16_operand();
std::size_t operand_bytes(Operand type);  // per element
// Converts fp32 to an operand, to nearest even.
void to_operand(Operand type, const float* from, std::byte* to, std::size_t count);

// y = x b, on the calling thread. x: (m, k), b: (k, n) or, transposed, (n, k), y: (m, n) in fp32,
// all row-major and contiguous.
struct TileProduct {
  std::size_t m = 0, n = 0, k = 0;
  bool b_transposed = false;

  bool operator==(const TileProduct&) const = default;
};
void multiply_tile(Operand type, const TileProduct& shape, const std::byte* x, const std::byte* b,
                   float* y);

// A weight matrix (out, in) in the layout that the machine multiplies fastest, for many products.
class PackedWeights {
 public:
  PackedWeights(MatrixView<const float> weight, Operand type);
  PackedWeights(PackedWeights&&) noexcept;
  PackedWeights& operator=(PackedWeights&&) noexcept;
  ~PackedWeights();

  std::size_t in() const;
  std::size_t out() const;

  // y = x W' + bias. x: (rows, in), y: (rows, out), bias: out values or empty. Parallel inside. The
  // bits of a row depend neither on the thread count nor on the other rows nor on its place among
  // them: oneDNN sums over `in` in one order whatever the tile's height (tests hold it to that),
  // and where it does not (below AVX-512) tiles are filled up to heights for which it does.
  void multiply(MatrixView<const float> x, std::span<const float> bias, MatrixView<float> y) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace neap
