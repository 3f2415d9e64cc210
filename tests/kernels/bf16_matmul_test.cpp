// Judge: the definition in kernels/bf16_level.h, spelt out on the weights as they are stored, to
// the bit, at every level that this machine can run.
#include "kernels/bf16_matmul.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "base/half.h"
#include "base/parallel.h"
#include "codec/fp4_support.h"
#include "codec/lobcq_support.h"
#include "codec/minifloat.h"
#include "codec/random_tensor.h"
#include "support/random_matrix.h"

namespace neap {
namespace {

// Weights as integers with a scale for each block of columns.
struct Judged {
  std::size_t block;
  Matrix<float> values;  // (rows, cols)
  Matrix<float> scales;  // (rows, blocks)
  float factor;
};

float rounded(float x) { return std::abs(x) < 0x1p-100f ? 0 : bf16_to_float(float_to_bf16(x)); }

float product(const Judged& w, std::size_t row, const float* x) {
  const std::size_t cols = w.values.cols();
  float sum = 0;
  for (std::size_t b = 0; b < w.scales.cols(); ++b) {
    for (const std::size_t parity : {0, 1}) {
      float dot = 0;
      for (std::size_t k = b * w.block + parity; k < (b + 1) * w.block; k += 4) {
        for (const std::size_t c : {k + 2, k}) {
          if (c < cols) dot = std::fma(w.values(row, c), rounded(x[c]), dot);
        }
      }
      sum = std::fma(dot, w.scales(row, b), sum);
    }
  }
  return sum * w.factor;
}

Judged judged(const QuantizedTensor& tensor, std::size_t block) {
  const auto rows = static_cast<std::size_t>(tensor.rows), cols = static_cast<std::size_t>(tensor.cols);
  const auto groups = static_cast<std::size_t>(tensor.layout.groups(tensor.cols));
  const std::size_t group = tensor.layout.group == 0 ? cols : static_cast<std::size_t>(tensor.layout.group);
  const std::size_t blocks = (cols + block - 1) / block;
  Judged w{block, Matrix<float>(rows, cols), Matrix<float>(rows, blocks), 1};
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < cols; ++c) {
      const std::size_t at = r * groups + c / group;
      const int zero = tensor.layout.symmetric ? 1 << (tensor.layout.bits - 1) : tensor.zeros[at];
      w.values(r, c) = static_cast<float>(tensor.codes[r * cols + c] - zero);
    }
    for (std::size_t b = 0; b < blocks; ++b) w.scales(r, b) = tensor.scales[r * groups + b * block / group];
  }
  return w;
}

Judged judged(const LobcqTensor& tensor, const Codebooks& codebooks) {
  const auto rows = static_cast<std::size_t>(tensor.rows), cols = static_cast<std::size_t>(tensor.cols);
  const auto arrays = static_cast<std::size_t>(tensor.layout.arrays(tensor.cols));
  Judged w{static_cast<std::size_t>(tensor.layout.block_array), Matrix<float>(rows, cols),
           Matrix<float>(rows, arrays), tensor.tensor_scale};
  LobcqTensor unit = tensor;
  unit.tensor_scale = 1;
  std::fill(unit.scales.begin(), unit.scales.end(), float_to_e4m3(1));
  dequantize(unit, codebooks, 0, tensor.rows, w.values);
  for (std::size_t i = 0; i < rows * arrays; ++i) w.scales.data()[i] = e4m3_to_float(tensor.scales[i]);
  return w;
}

Judged judged(const Fp4Tensor& tensor) {
  const auto rows = static_cast<std::size_t>(tensor.rows), cols = static_cast<std::size_t>(tensor.cols);
  const auto group = static_cast<std::size_t>(tensor.layout.group());
  Judged w{group, Matrix<float>(rows, cols), Matrix<float>(rows, cols / group), 1};
  for (std::size_t i = 0; i < rows * cols; ++i) w.values.data()[i] = 2 * e2m1_to_float(tensor.codes[i]);
  for (std::size_t i = 0; i < rows * cols / group; ++i)
    w.scales.data()[i] = 0.5f * fp4_scale(tensor.layout, tensor.scales[i], tensor.global_scale);
  return w;
}

// Zeros, and numbers below and above what counts as one.
Matrix<float> inputs(std::size_t tokens, std::size_t cols, std::uint64_t seed) {
  Matrix<float> x = random_inputs(tokens, cols, seed);
  for (std::size_t c = 0; c < std::min<std::size_t>(cols, 64); ++c) x(0, c) *= 0x1p-100f;
  for (std::size_t c = 0; c < std::min<std::size_t>(cols, 32); ++c) x(tokens - 1, c) = 0;
  return x;
}

template <class Packed>
void compare(const Packed& packed, const Judged& w, std::size_t tokens, std::uint64_t seed,
             const std::string& what) {
  const std::size_t rows = packed.rows(), cols = packed.cols();
  const Matrix<float> x = inputs(tokens, cols, seed), bias = random_matrix(1, rows, 3);
  for (const Isa isa : supported_isas()) {
    Bf16Inputs halves;
    halves.round(packed.bf16_block(), x, isa);
    Matrix<float> y(tokens, rows);
    multiply(packed, halves, {bias.data(), rows}, y);
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t r = 0; r < rows; ++r) {
        const float want = product(w, r, x.row(t)) + bias(0, r);
        ASSERT_EQ(std::bit_cast<std::uint32_t>(y(t, r)), std::bit_cast<std::uint32_t>(want))
            << name_of(isa) << ", " << what << ": " << tokens << " x " << cols << " x " << rows
            << ": token " << t << ", row " << r << ": " << y(t, r) << " " << want;
      }
    }
  }
}

void compare(const GroupLayout& layout, std::int64_t rows, std::int64_t cols, std::size_t tokens,
             std::uint32_t seed) {
  const QuantizedTensor tensor = random_tensor(layout, rows, cols, seed);
  const PackedGroupInt packed(tensor);
  compare(packed, judged(tensor, packed.bf16_block()), tokens, seed + 1,
          std::to_string(layout.bits) + " bits, groups of " + std::to_string(layout.group));
}

void compare(const LobcqLayout& layout, std::int64_t rows, std::int64_t cols, std::size_t tokens,
             std::uint32_t seed) {
  const LobcqTensor tensor = random_lobcq(layout, rows, cols, seed);
  const Codebooks codebooks = random_codebooks(layout, seed + 2);
  compare(PackedLobcq(tensor, codebooks), judged(tensor, codebooks), tokens, seed + 1,
          std::to_string(layout.block_array) + "/" + std::to_string(layout.block) + "/" +
              std::to_string(layout.codebooks));
}

TEST(Bf16Matmul, EveryLevelHasTheDefinedBitsInEveryGroupLayout) {
  std::uint32_t seed = 100;
  for (const int bits : {2, 3, 4, 8}) {
    for (const std::int64_t group : {0, 32, 64, 96, 128, 192, 256}) {
      for (const bool symmetric : {true, false}) {
        for (const std::size_t tokens : {1, 3, 4, 7})
          compare(GroupLayout{bits, group, symmetric, DType::bf16}, 37, 413, tokens, seed += 10);
      }
    }
  }
}

TEST(Bf16Matmul, EveryLevelHasTheDefinedBitsInEveryLobcqLayout) {
  std::uint32_t seed = 5000;
  for (const LobcqLayout& layout : every_layout()) {
    for (const std::size_t tokens : {1, 2, 5}) compare(layout, 35, 2 * layout.block_array + 13, tokens, seed += 10);
  }
}

TEST(Bf16Matmul, EveryLevelHasTheDefinedBitsOfFourBitFloats) {
  std::uint32_t seed = 7000;
  for (const BlockScaled format : {BlockScaled::nvfp4, BlockScaled::mxfp4}) {
    const Fp4Layout layout{format};
    for (const std::int64_t rows : {1, 16, 35}) {
      for (const std::int64_t groups : {1, 3, 4, 18}) {
        for (const std::size_t tokens : {1, 2, 5, 200}) {
          const Fp4Tensor tensor = random_fp4_of_all_scales(layout, rows, groups * layout.group(), seed += 10);
          compare(PackedFp4(tensor), judged(tensor), tokens, seed + 1,
                  format == BlockScaled::nvfp4 ? "NVFP4" : "MXFP4");
        }
      }
    }
  }
}

TEST(Bf16Matmul, EveryLevelHasTheDefinedBitsAtOddSizes) {
  std::uint32_t seed = 90000;
  for (const std::int64_t rows : {1, 16, 17, 70}) {
    for (const std::int64_t cols : {1, 31, 33, 65, 130, 576}) {
      for (const std::size_t tokens : {1, 2, 5, 6, 13}) {
        compare(GroupLayout{4, 64, false, DType::f16}, rows, cols, tokens, seed += 10);
        compare(GroupLayout{8, 0, false, DType::f32}, rows, cols, tokens, seed += 10);
        compare(LobcqLayout{}, rows, cols, tokens, seed += 10);
      }
    }
  }
}

TEST(Bf16Matmul, TilesOfTokensDoNotShow) {
  compare(GroupLayout{3, 64, false, DType::f16}, 50, 192, 389, 7);
}

TEST(Bf16Matmul, ProductsTogetherAreThoseAlone) {
  const QuantizedTensor a = random_tensor({4, 64, true, DType::bf16}, 300, 200, 1);
  const QuantizedTensor b = random_tensor({2, 64, false, DType::bf16}, 21, 200, 2);
  const PackedGroupInt first(a), second(b);
  for (const std::size_t tokens : {std::size_t{1}, std::size_t{9}}) {
    const Matrix<float> x = random_inputs(tokens, 200, 5);
    Bf16Inputs halves;
    halves.round(64, x);
    Matrix<float> alone_1(tokens, 300), alone_2(tokens, 21), together_1(tokens, 300), together_2(tokens, 21);
    multiply(first, halves, {}, alone_1);
    multiply(second, halves, {}, alone_2);
    for (int threads = 1; threads <= 3; ++threads) {
      const ThreadScope scope(threads);
      const Product<PackedGroupInt> both[] = {{&first, {}, together_1}, {&second, {}, together_2}};
      multiply(std::span<const Product<PackedGroupInt>>(both), halves);
      for (std::size_t i = 0; i < tokens * 300; ++i) ASSERT_EQ(together_1.data()[i], alone_1.data()[i]);
      for (std::size_t i = 0; i < tokens * 21; ++i) ASSERT_EQ(together_2.data()[i], alone_2.data()[i]);
    }
  }
}

TEST(Bf16Matmul, NanComesThrough) {
  const PackedGroupInt packed(random_tensor({4, 32, true, DType::bf16}, 16, 100, 5));
  Matrix<float> x = random_matrix(2, 100, 6);
  x(1, 70) = std::numeric_limits<float>::quiet_NaN();
  for (const Isa isa : supported_isas()) {
    Bf16Inputs halves;
    halves.round(32, x, isa);
    Matrix<float> y(2, 16);
    multiply(packed, halves, {}, y);
    for (std::size_t r = 0; r < 16; ++r) {
      EXPECT_FALSE(std::isnan(y(0, r)));
      EXPECT_TRUE(std::isnan(y(1, r)));
    }
  }
}

}  // namespace
}  // namespace neap
