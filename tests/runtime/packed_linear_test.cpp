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
  for (const auto& scale : {std::optional<float>(), std::optional<float>(0.015625f)}) {
    const InputEncoder inputs{encoder, set.activations, scale};
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
  EXPECT_EQ(packed_linears()->head(head), nullptr);
  const auto int8 = packed_linears({.int8_inputs = false, .head = HeadWeights::int8});
  EXPECT_LT(distance(apply(*int8->head(head), x), want), 0.015);
  const auto lobcq = packed_linears({.int8_inputs = false, .head = HeadWeights::lobcq});
  EXPECT_LT(distance(apply(*lobcq->head(head), x), want), 0.1);
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
  EXPECT_THROW(head_weights_from_name("int3"), Error);
}

}  // namespace
}  // namespace neap
