// Judge: multiply() of codec/lobcq.h, to the bit, at every level that this machine can run.
#include "kernels/lobcq_matmul.h"

#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <string>

#include "base/parallel.h"
#include "codec/lobcq_support.h"
#include "neap/error.h"

namespace neap {
namespace {

Matrix<float> normal(std::size_t rows, std::size_t cols, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> draw;
  Matrix<float> m(rows, cols);
  for (std::size_t i = 0; i < rows * cols; ++i) m.data()[i] = draw(random);
  // Arrays of zeros, and of hardly more.
  for (std::size_t c = 0; c < std::min<std::size_t>(cols, 16); ++c) m(0, c) = 0;
  for (std::size_t c = 16; c < std::min<std::size_t>(cols, 32); ++c) m(rows - 1, c) *= 1e-6f;
  return m;
}

struct Case {
  LobcqLayout layout;
  std::int64_t rows, cols;
  std::size_t tokens;
};

std::string text(const Case& c) {
  return std::to_string(c.layout.block_array) + "/" + std::to_string(c.layout.block) + "/" +
         std::to_string(c.layout.codebooks) + ": " + std::to_string(c.tokens) + " x " +
         std::to_string(c.cols) + " x " + std::to_string(c.rows);
}

// multiply(), token by token where each has a tensor scale of its own.
Matrix<float> judged(const Case& c, const LobcqEncoder& encoder, const Codebooks& input_codebooks,
                     const LobcqTensor& weights, const Codebooks& codebooks, const Matrix<float>& x,
                     std::optional<float> scale) {
  Matrix<float> y(c.tokens, static_cast<std::size_t>(c.rows));
  for (std::size_t t = 0; t < c.tokens; ++t) {
    const MatrixView<const float> token = x.view().row_range(t, 1);
    const LobcqTensor coded = encoder.encode(
        token, scale ? *scale : tensor_scale_for(largest_magnitude(token)), ScaleChoice::maximum);
    multiply(coded, input_codebooks, weights, codebooks, y.view().row_range(t, 1));
  }
  return y;
}

void expect_equal(const Case& c, Isa isa, const Matrix<float>& want, const Matrix<float>& found) {
  for (std::size_t i = 0; i < want.rows() * want.cols(); ++i) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(found.data()[i]),
              std::bit_cast<std::uint32_t>(want.data()[i]))
        << name_of(isa) << " " << text(c) << ", token " << i / want.cols() << ", row "
        << i % want.cols();
  }
}

void compare(const Case& c, std::optional<float> scale, std::uint32_t seed) {
  const Codebooks codebooks = random_codebooks(c.layout, seed + 1);
  const Codebooks input_codebooks = random_codebooks(c.layout, seed + 2);
  const LobcqTensor weights = random_lobcq(c.layout, c.rows, c.cols, seed + 3);
  const LobcqEncoder encoder(c.layout, input_codebooks);
  const Matrix<float> x = normal(c.tokens, static_cast<std::size_t>(c.cols), seed + 4);
  const Matrix<float> want = judged(c, encoder, input_codebooks, weights, codebooks, x, scale);
  const PackedLobcq packed(weights, codebooks);
  LobcqInputs inputs;
  inputs.encode(encoder, scale, ScaleChoice::maximum, x);
  for (const Isa isa : supported_isas()) {
    Matrix<float> y(want.rows(), want.cols());
    multiply(packed, inputs, {}, y, isa);
    expect_equal(c, isa, want, y);
  }
}

TEST(LobcqMatmul, EveryLevelHasTheBitsOfTheFormatInEveryLayout) {
  std::uint32_t seed = 1000;
  for (const LobcqLayout& layout : every_layout()) {
    for (const std::size_t tokens : {1, 3, 7}) {
      compare({layout, 37, 2 * layout.block_array + 13, tokens}, 0.0078125f, seed += 10);
    }
  }
}

TEST(LobcqMatmul, EveryLevelHasTheBitsOfTheFormatAtOddSizes) {
  const LobcqLayout layout;
  std::uint32_t seed = 9000;
  for (const std::int64_t rows : {1, 15, 16, 17, 33, 70}) {
    for (const std::int64_t cols : {1, 7, 64, 65, 130, 576}) {
      for (const std::size_t tokens : {1, 2, 4, 5, 6, 11, 13}) {
        compare({layout, rows, cols, tokens}, {}, seed += 10);
      }
    }
  }
}

TEST(LobcqMatmul, TilesOfTokensDoNotShow) {
  compare({LobcqLayout{}, 50, 192, 200}, {}, 77);
  compare({LobcqLayout{}, 50, 192, 389}, 0.03125f, 78);
}

TEST(LobcqMatmul, InputsAndOutputsMayLieAnywhere) {
  const LobcqLayout layout;
  const Codebooks codebooks = random_codebooks(layout, 5);
  const LobcqTensor weights = random_lobcq(layout, 19, 70, 6);
  const LobcqEncoder encoder(layout, codebooks);
  const PackedLobcq packed(weights, codebooks);
  const Matrix<float> x = normal(9, 70, 7);
  LobcqInputs inputs;
  inputs.encode(encoder, {}, ScaleChoice::maximum, x);
  for (const Isa isa : supported_isas()) {
    Matrix<float> plain(9, 19);
    multiply(packed, inputs, {}, plain, isa);
    // One float off, with room between the rows that must stay as it is.
    std::vector<float> wide_x(1 + 9 * 75), wide_y(1 + 9 * 23, -7.0f);
    const MatrixView<float> shifted_x(wide_x.data() + 1, 9, 70, 75),
        y(wide_y.data() + 1, 9, 19, 23);
    for (std::size_t t = 0; t < 9; ++t) std::copy_n(x.row(t), 70, shifted_x.row(t));
    LobcqInputs shifted;
    shifted.encode(encoder, {}, ScaleChoice::maximum, shifted_x);
    multiply(packed, shifted, {}, y, isa);
    for (std::size_t t = 0; t < 9; ++t) {
      for (std::size_t o = 0; o < 19; ++o) ASSERT_EQ(y(t, o), plain(t, o)) << name_of(isa);
      for (std::size_t o = 19; o < 23 && t < 8; ++o) ASSERT_EQ(y.row(t)[o], -7.0f);
    }
  }
}

TEST(LobcqMatmul, TheBiasIsAddedToTheRoundedProduct) {
  const LobcqLayout layout;
  const Codebooks codebooks = random_codebooks(layout, 15);
  const LobcqTensor weights = random_lobcq(layout, 35, 200, 16);
  const LobcqEncoder encoder(layout, codebooks);
  const PackedLobcq packed(weights, codebooks);
  const Matrix<float> bias = normal(1, 35, 18);
  for (const std::size_t tokens : {std::size_t{2}, std::size_t{8}}) {
    LobcqInputs inputs;
    inputs.encode(encoder, {}, ScaleChoice::maximum, normal(tokens, 200, 17));
    for (const Isa isa : supported_isas()) {
      Matrix<float> without(tokens, 35), with(tokens, 35);
      multiply(packed, inputs, {}, without, isa);
      multiply(packed, inputs, {bias.data(), 35}, with, isa);
      for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t o = 0; o < 35; ++o) {
          ASSERT_EQ(with(t, o), without(t, o) + bias(0, o)) << name_of(isa);
        }
      }
    }
  }
}

TEST(LobcqMatmul, ThreadsDoNotMatter) {
  const LobcqLayout layout;
  const Codebooks codebooks = random_codebooks(layout, 25);
  const LobcqTensor weights = random_lobcq(layout, 300, 640, 26);
  const LobcqEncoder encoder(layout, codebooks);
  for (const std::size_t tokens : {std::size_t{1}, std::size_t{250}}) {
    const Matrix<float> x = normal(tokens, 640, 27);
    Matrix<float> results[3];
    for (int threads = 1; threads <= 3; ++threads) {
      const ThreadScope scope(threads);
      const PackedLobcq packed(weights, codebooks);
      LobcqInputs inputs;
      inputs.encode(encoder, {}, ScaleChoice::maximum, x);
      Matrix<float>& y = results[threads - 1] = Matrix<float>(tokens, 300);
      multiply(packed, inputs, {}, y);
    }
    for (std::size_t i = 0; i < tokens * 300; ++i) {
      ASSERT_EQ(results[0].data()[i], results[1].data()[i]);
      ASSERT_EQ(results[0].data()[i], results[2].data()[i]);
    }
  }
}

TEST(LobcqMatmul, PackedWeightsTakeTheFilesBitsAWeight) {
  const LobcqLayout layout;
  const PackedLobcq packed(random_lobcq(layout, 576, 1536, 35), random_codebooks(layout, 36));
  EXPECT_EQ(static_cast<double>(packed.bytes()) * 8 / (576 * 1536),
            bits_per_weight(layout, 576, 1536));
}

// The definition in kernels/int8_inputs.h and lobcq_matmul.h, spelt out.
TEST(LobcqMatmul, EveryLevelHasTheDefinedBitsOnActivationsOf8Bits) {
  std::uint32_t seed = 50000;
  for (const LobcqLayout& layout : every_layout()) {
    const std::int64_t rows = 35, cols = 3 * layout.block_array / 2 + 5;
    const Codebooks codebooks = random_codebooks(layout, seed++);
    const LobcqTensor weights = random_lobcq(layout, rows, cols, seed++);
    const PackedLobcq packed(weights, codebooks);
    Matrix<float> entries(35, static_cast<std::size_t>(cols));  // times the signed tensor scale
    LobcqTensor unit = weights;
    unit.tensor_scale = 1;
    std::fill(unit.scales.begin(), unit.scales.end(), float_to_e4m3(1));
    dequantize(unit, codebooks, 0, rows, entries);
    for (const std::size_t tokens : {std::size_t{2}, std::size_t{7}}) {
      const Matrix<float> x = normal(tokens, static_cast<std::size_t>(cols), seed++);
      for (const Isa isa : supported_isas()) {
        Int8Inputs inputs;
        inputs.round(packed.int8_blocks(), x, isa);
        Matrix<float> y(tokens, 35);
        multiply(packed, inputs, {}, y, isa);
        for (std::size_t t = 0; t < tokens; ++t) {
          for (std::size_t r = 0; r < 35; ++r) {
            float sum = 0;
            for (std::int64_t a = 0; a < layout.arrays(cols); ++a) {
              const std::int64_t first = a * layout.block_array;
              const std::int64_t last = std::min(cols, first + layout.block_array);
              float largest = 0, dot = 0;
              for (std::int64_t c = first; c < last; ++c)
                largest = std::max(largest, std::abs(x(t, static_cast<std::size_t>(c))));
              for (std::int64_t c = first; c < last && largest > 0; ++c) {
                const auto at = static_cast<std::size_t>(c);
                dot += std::nearbyint(x(t, at) * (127.0f / largest)) * entries(r, at);
              }
              const auto array =
                  r * static_cast<std::size_t>(layout.arrays(cols)) + static_cast<std::size_t>(a);
              sum = std::fma(dot, largest / 127.0f * e4m3_to_float(weights.scales[array]), sum);
            }
            ASSERT_EQ(y(t, r), sum * weights.tensor_scale) << name_of(isa);
          }
        }
      }
    }
  }
}

TEST(LobcqMatmul, RefusesWhatIsNotFinite) {
  const LobcqLayout layout;
  const LobcqEncoder encoder(layout, random_codebooks(layout, 45));
  Matrix<float> x = normal(3, 100, 46);
  x(1, 70) = std::numeric_limits<float>::quiet_NaN();
  LobcqInputs inputs;
  EXPECT_THROW(inputs.encode(encoder, {}, ScaleChoice::maximum, x), Error);
  EXPECT_THROW(inputs.encode(encoder, 0.5f, ScaleChoice::maximum, x), Error);
}

}  // namespace
}  // namespace neap
