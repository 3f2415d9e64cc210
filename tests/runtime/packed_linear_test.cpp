#include <gtest/gtest.h>

#include <cstring>

#include "codec/fp4_support.h"
#include "codec/lobcq_support.h"
#include "codec/random_tensor.h"
#include "model/packed_linears.h"
#include "neap/error.h"
#include "neap/runtime.h"

namespace neap {
namespace {

Matrix<float> apply(const Linear& linear, const Matrix<float>& x) {
  Matrix<float> y(x.rows(), linear.out());
  linear.apply(x, y);
  return y;
}

// Norm of the difference over that of `want`.
double distance(const Matrix<float>& found, const Matrix<float>& want) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < want.rows() * want.cols(); ++i) {
    const double d = static_cast<double>(found.data()[i]) - want.data()[i];
    difference += d * d;
    norm += static_cast<double>(want.data()[i]) * want.data()[i];
  }
  return std::sqrt(difference / norm);
}

LobcqTensor encoded(const Matrix<float>& weight, const CodebookSet& set) {
  const LobcqEncoder encoder(set.layout, set.weights);
  return encoder.encode(weight, tensor_scale_for(largest_magnitude(weight)), ScaleChoice::maximum);
}

TEST(PackedLinears, CodedLayersHaveTheBitsOfTheSimulation) {
  const CodebookSet set = universal_codebooks({});
  const LobcqTensor weight = encoded(random_matrix(200, 300, 1), set);
  const std::vector<float> bias(200, 0.37f);
  const auto encoder = std::make_shared<LobcqEncoder>(set.layout, set.activations);
  for (const auto& [scale, scales] : {std::pair{std::optional<float>(), ScaleChoice::maximum},
                                      std::pair{std::optional<float>(0.015625f), ScaleChoice::maximum},
                                      std::pair{std::optional<float>(0.015625f), ScaleChoice::search}}) {
    const InputEncoder inputs{encoder, set.activations, scale, scales};
    const auto simulated = make_coded_linear(weight, set.weights, bias, inputs);
    const auto packed = packed_linears()->coded(weight, set.weights, bias, inputs);
    EXPECT_EQ(packed->in(), 300u);
    for (const std::size_t tokens : {std::size_t{1}, std::size_t{70}}) {
      const Matrix<float> x = random_inputs(tokens, 300, tokens);
      const Matrix<float> want = apply(*simulated, x), found = apply(*packed, x);
      EXPECT_EQ(std::memcmp(found.data(), want.data(), tokens * 200 * sizeof(float)), 0);
    }
  }
}

TEST(PackedLinears, LayersOn8BitInputsAreNearDenseOnes) {
  const CodebookSet set = universal_codebooks({});
  const LobcqTensor lobcq = encoded(random_matrix(100, 320, 2), set);
  const QuantizedTensor groups = random_tensor({3, 64, false, DType::bf16}, 100, 320, 3);
  const auto packed = packed_linears({.int8_inputs = true});
  const Matrix<float> x = random_inputs(9, 320, 4);
  Matrix<float> dense(100, 320);
  dequantize(lobcq, set.weights, 0, 100, dense);
  EXPECT_LT(distance(apply(*packed->plain(lobcq, set.weights, {}, Precision::bf16), x),
                     apply(*make_dense_linear(dense, {}, Precision::f32), x)),
            0.01);
  dequantize(groups, 0, 100, dense);
  EXPECT_LT(distance(apply(*packed->plain(groups, {}, Precision::bf16), x),
                     apply(*make_dense_linear(dense, {}, Precision::f32), x)),
            0.01);
  const Fp4Tensor floats = random_fp4({}, 100, 320, 5);
  dequantize(floats, 0, 100, dense);
  EXPECT_LT(distance(apply(*packed->plain(floats, {}, Precision::bf16), x),
                     apply(*make_dense_linear(dense, {}, Precision::f32), x)),
            0.01);
}

TEST(PackedLinears, HeadsAreAsNearAsTheirBitsAllow) {
  const Matrix<float> head = random_matrix(130, 192, 5), x = random_matrix(3, 192, 6);
  const Matrix<float> want = apply(*make_dense_linear(head, {}, Precision::f32), x);
  const auto packed = packed_linears();
  EXPECT_LT(distance(apply(*packed->vocabulary_part(VocabularyWeights::int8, head), x), want), 0.015);
  EXPECT_LT(distance(apply(*packed->vocabulary_part(VocabularyWeights::lobcq, head), x), want), 0.1);
}

TEST(PackedLinears, RowsOfTheVocabularyAreThoseOfTheCodec) {
  const Matrix<float> rows = random_matrix(50, 200, 7);
  const CodebookSet set = universal_codebooks({});
  const LobcqEncoder encoder(set.layout, set.weights);
  Matrix<float> want(50, 200), found(50, 200);
  const float scale = tensor_scale_for(largest_magnitude(rows));
  dequantize(encoder.encode(rows, scale, ScaleChoice::search), set.weights, 0, 50, want);
  const auto packed = packed_linears();
  const auto lobcq = packed->vocabulary_part(VocabularyWeights::lobcq, rows);
  const auto int8 = packed->vocabulary_part(VocabularyWeights::int8, rows);
  for (std::size_t r = 0; r < 50; ++r) {
    lobcq->read_row(r, found.row(r));
    EXPECT_EQ(std::memcmp(found.row(r), want.row(r), 200 * sizeof(float)), 0) << r;
    int8->read_row(r, found.row(r));
    for (std::size_t first = 0; first < 200; first += 64) {
      const std::size_t end = std::min<std::size_t>(200, first + 64);
      float largest = 0;
      for (std::size_t c = first; c < end; ++c) largest = std::max(largest, std::abs(rows(r, c)));
      // Half a step, and what bf16 takes from the scale of the largest value.
      const float most = largest * (0.5f / 127 + 0x1p-8f);
      for (std::size_t c = first; c < end; ++c) EXPECT_LE(std::abs(found(r, c) - rows(r, c)), most);
    }
  }
}

TEST(PackedLinears, LeavesToDecodingWhatItIsNotAskedFor) {
  const CodebookSet set = universal_codebooks({});
  const auto exact = packed_linears();
  EXPECT_EQ(exact->plain(random_tensor({4, 64, true, DType::bf16}, 8, 64, 1), {}, Precision::f32), nullptr);
  EXPECT_EQ(exact->plain(random_lobcq({}, 8, 64, 1), set.weights, {}, Precision::f32), nullptr);
  for (const bool int8 : {false, true}) {
    const auto packed = packed_linears({.int8_inputs = int8});
    EXPECT_EQ(packed->plain(random_tensor({5, 64, true, DType::bf16}, 8, 64, 1), {}, Precision::bf16), nullptr);
  }
}

TEST(PackedLinears, KindsOfVocabularyWeightsHaveNames) {
  for (const char* name : {"stored", "int8", "lobcq"}) EXPECT_EQ(name_of(vocabulary_weights_from_name(name)), name);
  EXPECT_THROW(vocabulary_weights_from_name("int3"), Error);
}

}  // namespace
}  // namespace neap
