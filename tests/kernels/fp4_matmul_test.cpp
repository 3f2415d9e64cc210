// Judge: the definition in kernels/fp4_matmul.h, spelt out, to the bit, at every level that this machine
// can run. On bf16 activations: bf16_matmul_test.cpp.
#include "kernels/fp4_matmul.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "base/parallel.h"
#include "codec/fp4_support.h"
#include "support/random_matrix.h"

namespace neap {
namespace {

constexpr Fp4Layout kLayouts[] = {{BlockScaled::nvfp4}, {BlockScaled::mxfp4}};

float judged(const Fp4Tensor& w, std::size_t row, const float* x) {
  const auto group = static_cast<std::size_t>(w.layout.group()), cols = static_cast<std::size_t>(w.cols);
  float sum = 0;
  for (std::size_t first = 0; first < cols; first += group) {
    float largest = 0;
    for (std::size_t c = first; c < first + group; ++c) largest = std::max(largest, std::abs(x[c]));
    const bool zero = largest < 0x1p-100f;
    int dot = 0;
    for (std::size_t c = first; c < first + group && !zero; ++c) {
      dot += static_cast<int>(std::nearbyint(x[c] * (127.0f / largest))) *
             static_cast<int>(2 * e2m1_to_float(w.codes[row * cols + c]));
    }
    const float scale = 0.5f * fp4_scale(w.layout, w.scales[(row * cols + first) / group], w.global_scale);
    const float scales = (zero ? 0 : largest / 127.0f) * scale;
    sum = std::fma(static_cast<float>(dot), scales, sum);
  }
  return sum;
}

void compare(const Fp4Layout& layout, std::int64_t rows, std::int64_t groups, std::size_t tokens,
             std::uint32_t seed) {
  const Fp4Tensor weights = random_fp4_of_all_scales(layout, rows, groups * layout.group(), seed);
  const auto count = static_cast<std::size_t>(rows);
  Matrix<float> x = random_inputs(tokens, static_cast<std::size_t>(weights.cols), seed + 1);
  for (std::size_t c = 0; c < 16; ++c) x(0, c) = 0;
  const Matrix<float> bias = random_matrix(1, count, 3);
  const PackedFp4 packed(weights);
  for (const Isa isa : supported_isas()) {
    Int8Inputs rounded;
    rounded.round(packed.int8_blocks(), x, isa);
    Matrix<float> y(tokens, count);
    multiply(packed, rounded, {bias.data(), count}, y, isa);
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t r = 0; r < count; ++r) {
        const float want = judged(weights, r, x.row(t)) + bias(0, r);
        ASSERT_EQ(std::bit_cast<std::uint32_t>(y(t, r)), std::bit_cast<std::uint32_t>(want))
            << name_of(isa) << ", groups of " << layout.group() << ": " << tokens << " x " << weights.cols
            << " x " << rows << ": token " << t << ", row " << r << ": " << y(t, r) << " " << want;
      }
    }
  }
}

TEST(Fp4Matmul, EveryLevelHasTheDefinedBitsAtEverySize) {
  std::uint32_t seed = 100;
  for (const Fp4Layout& layout : kLayouts) {
    for (const std::int64_t rows : {1, 16, 17, 70}) {
      for (const std::int64_t groups : {1, 2, 4, 7, 36}) {
        for (const std::size_t tokens : {1, 2, 3, 4, 5, 13}) compare(layout, rows, groups, tokens, seed += 10);
      }
    }
  }
}

TEST(Fp4Matmul, TilesOfTokensDoNotShow) { compare(kLayouts[0], 50, 12, 389, 7); }

TEST(Fp4Matmul, EveryScaleIsThatOfTheFormat) {
  for (const Fp4Layout& layout : kLayouts) {
    Fp4Tensor tensor{.layout = layout, .rows = 1, .cols = 256 * layout.group(), .codes = {}, .scales = {}};
    if (layout.format == BlockScaled::nvfp4) tensor.global_scale = 0.37f;
    tensor.codes.assign(static_cast<std::size_t>(tensor.cols), 2);
    for (int bits = 0; bits < 256; ++bits)
      tensor.scales.push_back(static_cast<std::uint8_t>(usable_scale(layout, static_cast<std::uint8_t>(bits)) ? bits : 1));
    const PackedFp4 packed(tensor);
    for (const Isa isa : supported_isas()) {
      Matrix<float> scales(256, kPairRows);
      std::vector<std::uint8_t> values(static_cast<std::size_t>(tensor.cols) * kPairRows);
      fp4_kernels(isa).decode(packed.shape(), packed.panel(0), {0, 256}, values.data(), scales.data());
      for (std::size_t g = 0; g < 256; ++g)
        ASSERT_EQ(scales(g, 0), 0.5f * fp4_scale(layout, tensor.scales[g], tensor.global_scale)) << name_of(isa);
    }
  }
}

TEST(Fp4Matmul, PackedWeightsTakeTheFilesBitsAWeight) {
  for (const Fp4Layout& layout : kLayouts) {
    const PackedFp4 packed(random_fp4(layout, 64, 2048, 3));
    EXPECT_EQ(static_cast<double>(packed.bytes()) * 8 / (64 * 2048), bits_per_weight(layout, 64, 2048));
  }
}

}  // namespace
}  // namespace neap
