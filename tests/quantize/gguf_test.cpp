#include "quantize/gguf.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include "export/gguf_mix.h"
#include "io/gguf.h"
#include "model/weights.h"
#include "neap/quantize.h"
#include "quantize/plan.h"
#include "support/expect_error.h"
#include "support/random_matrix.h"
#include "support/tiny_model.h"

namespace neap {
namespace {

double squared_error(const Matrix<float>& weight, const QuantizedWeight& tensor) {
  Matrix<float> rounded(weight.rows(), weight.cols());
  dequantize(tensor, {}, 0, rows_of(tensor), rounded);
  double sum = 0;
  for (std::size_t i = 0; i < weight.rows() * weight.cols(); ++i) {
    sum += std::pow(static_cast<double>(weight.data()[i]) - rounded.data()[i], 2);
  }
  return sum;
}

// The scale of the block's largest magnitude, as ggml's plain quantizers choose it.
double plain_error(const Matrix<float>& weight, std::size_t block, int low) {
  double sum = 0;
  for (std::size_t first = 0; first < weight.rows() * weight.cols(); first += block) {
    const float* w = weight.data() + first;
    const float most = *std::max_element(w, w + block, [](float a, float b) { return std::abs(a) < std::abs(b); });
    const double scale = most / low;
    for (std::size_t i = 0; i < block; ++i) {
      const double code = std::clamp(std::nearbyint(w[i] / scale), double(low), double(-low - 1));
      sum += std::pow(scale * code - w[i], 2);
    }
  }
  return sum;
}

TEST(RoundToGguf, IsBetterThanTheScaleOfTheLargestWeight) {
  const Matrix<float> weight = random_matrix(16, 512, 1);
  EXPECT_LT(squared_error(weight, round_to_gguf(weight, {DType::q4_0})), 0.95 * plain_error(weight, 32, -8));
  EXPECT_LT(squared_error(weight, round_to_gguf(weight, {DType::q5_0})), 0.95 * plain_error(weight, 32, -16));
  EXPECT_LT(squared_error(weight, round_to_gguf(weight, {DType::iq4_nl})), squared_error(weight, round_to_gguf(weight, {DType::q4_0})));
  EXPECT_LT(squared_error(weight, round_to_gguf(weight, {DType::nvfp4})), squared_error(weight, round_to_gguf(weight, {DType::mxfp4})));
  // Sub-scales of 8 bits cost little of what groups of 16 gain.
  EXPECT_LT(squared_error(weight, round_to_gguf(weight, {DType::q6_k})), plain_error(weight, 16, -32));
}

TEST(RoundToGguf, MoreBitsAreNeverWorse) {
  const Matrix<float> weight = random_matrix(8, 256, 2);
  double before = std::numeric_limits<double>::infinity();
  for (const DType type : {DType::q2_k, DType::q3_k, DType::q4_0, DType::q4_k, DType::q5_0, DType::q5_k, DType::q6_k, DType::q8_0}) {
    const double error = squared_error(weight, round_to_gguf(weight, {type}));
    EXPECT_LT(error, before) << name_of(type);
    before = error;
  }
}

TEST(RoundToGguf, ConstantAndZeroBlocksAreHeldExactly) {
  Matrix<float> weight(2, 256);
  for (std::size_t c = 0; c < 256; ++c) weight(1, c) = 0.25f;
  for (const DType type : {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0, DType::q2_k, DType::q3_k,
                           DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl, DType::mxfp4, DType::nvfp4}) {
    Matrix<float> rounded(2, 256);
    dequantize(round_to_gguf(weight, {type}), {}, 0, 2, rounded);
    for (std::size_t c = 0; c < 256; ++c) {
      EXPECT_NEAR(rounded(0, c), 0, 1e-12) << name_of(type);
      // Scales before IQ4_NL's table are tried in steps of 4 %; NVFP4 has none but every 6 to 12 %.
      EXPECT_NEAR(rounded(1, c), 0.25f, type == DType::iq4_nl || type == DType::nvfp4 ? 0.01f : 2e-4f) << name_of(type);
    }
  }
}

TEST(RoundToGguf, AWeightThatIsNoNumberIsRefused) {
  Matrix<float> weight(1, 32);
  weight(0, 3) = NAN;
  EXPECT_ERROR(round_to_gguf(weight, {DType::q4_0}), ErrorCode::data, "column 3");
}

class QuantizeToGguf : public testing::Test {
 protected:
  QuantizeOptions options(const std::string& output, GgufMix mix, Method method) {
    QuantizeOptions o;
    std::string text;
    for (int i = 0; i < 60; ++i) text += "Line " + std::to_string(i * i) + " of the calibration text.\n";
    o.calibration_files = {folder_.write("text.txt", text)};
    o.recipe.scheme = Scheme::gguf;
    o.recipe.gguf = {mix, false, true};
    o.recipe.method = method;
    o.recipe.length = 64;
    o.recipe.refits = method == Method::ojbkq && !has_tables(mix) ? 1 : 0;
    o.output = folder_ / output;
    o.threads = 2;
    return o;
  }
  Checkpoint model() {
    const std::string path = folder_ / "llama2";
    return Checkpoint::open(std::filesystem::exists(path) ? path : test::tiny_model(folder_, "llama2"));
  }
  static std::string contents(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }

  test::TempFolder folder_;
};

TEST_F(QuantizeToGguf, EveryTypeAndMethodWritesAModelThatRuns) {
  for (const GgufMix mix : {GgufMix::q4_0, GgufMix::q4_1, GgufMix::q5_0, GgufMix::q5_1, GgufMix::q8_0, GgufMix::iq4_nl, GgufMix::mxfp4, GgufMix::nvfp4}) {
    for (const Method method : {Method::rtn, Method::gptq, Method::gptaq, Method::ojbkq}) {
      const std::string name = name_of(mix) + name_of(method);
      const QuantizeReport report = quantize(model(), options(name, mix, method));
      EXPECT_EQ(report.layers.size(), 12u);  // all but down_proj, whose rows are of 44
      EXPECT_FALSE(report.notes.empty());
      const Checkpoint output = Checkpoint::open(report.output);
      EXPECT_EQ(output.info("blk.0.attn_q.weight").type, base_type(mix));
      EXPECT_EQ(output.info("blk.0.ffn_down.weight").type, DType::f32);
      EXPECT_EQ(output.find("blk.1.attn_q.scale") != nullptr, mix == GgufMix::nvfp4);
      const auto runs = load_model(output);
      const std::vector<TokenId> tokens(12, 70);
      Matrix<float> states(12, 64);
      runs->forward(tokens, 12, states);
      for (std::size_t i = 0; i < 12 * 64; ++i) ASSERT_TRUE(std::isfinite(states.data()[i]));
    }
  }
}

// Rows of 64 and 44 inputs: every matrix takes a fallback, or stays.
TEST_F(QuantizeToGguf, FallbacksAreThoseOfTheTypeAndAreTold) {
  const QuantizeReport report = quantize(model(), options("small", GgufMix::q4_k_m, Method::rtn));
  const Checkpoint output = Checkpoint::open(report.output);
  EXPECT_EQ(output.info("blk.0.attn_q.weight").type, DType::q5_0);
  EXPECT_EQ(output.info("blk.1.attn_v.weight").type, DType::q8_0);
  EXPECT_EQ(output.info("blk.0.ffn_down.weight").type, DType::f32);
  EXPECT_NE(report.notes.front().find("Q4_K holds blocks of 256, and rows of"), std::string::npos);
  EXPECT_EQ(output.gguf()->integer("general.file_type"), 15);
}

TEST_F(QuantizeToGguf, ThreadCountDoesNotChangeTheBytes) {
  QuantizeOptions one = options("a/m", GgufMix::q4_0, Method::ojbkq), three = options("b/m", GgufMix::q4_0, Method::ojbkq);
  one.threads = 1;
  three.threads = 3;
  quantize(model(), one);
  quantize(model(), three);
  EXPECT_EQ(contents(one.output + "/m.gguf"), contents(three.output + "/m.gguf"));
}

TEST_F(QuantizeToGguf, AShapeThatATypeCannotHoldIsAnErrorUnlessAllowed) {
  QuantizeOptions o = options("out", GgufMix::q4_0, Method::rtn);
  o.recipe.gguf.allow_fallback = false;
  EXPECT_ERROR(quantize(model(), o), ErrorCode::argument, "model.layers.0.mlp.down_proj have 44");
  EXPECT_FALSE(std::filesystem::exists(o.output));
}

TEST_F(QuantizeToGguf, WhatTheFormatHasNoRoomForIsRefused) {
  QuantizeOptions awq = options("out", GgufMix::q4_0, Method::awq), head = options("out", GgufMix::q4_0, Method::rtn), other = head;
  head.recipe.lm_head_bits = 4;
  other.format = FileFormat::compressed_tensors;
  EXPECT_ERROR(quantize(model(), awq), ErrorCode::argument, "GGUF");
  EXPECT_ERROR(quantize(model(), head), ErrorCode::argument, "GGUF");
  EXPECT_ERROR(quantize(model(), other), ErrorCode::argument, "gguf");
}

// llama.cpp multiplies by them in some architectures alone, and has no place for that of an embedding.
TEST_F(QuantizeToGguf, Nvfp4IsRefusedWhereItsScalesOfMatricesWouldBeLeftOut) {
  QuantizeOptions o = options("out", GgufMix::nvfp4, Method::rtn);
  EXPECT_ERROR(quantize(Checkpoint::open(test::tiny_model(folder_, "qwen2")), o), ErrorCode::argument, "found qwen2");
  EXPECT_ERROR(quantize(Checkpoint::open(test::tiny_model(folder_, "llama-bias")), o), ErrorCode::argument, "found mlp_bias");
  o.recipe.gguf.pure = true;
  EXPECT_ERROR(quantize(model(), o), ErrorCode::argument, "found --pure");
}

// What a GGUF in NVFP4 keeps of itself as a source: its matrices with their scales.
TEST_F(QuantizeToGguf, AnIgnoredMatrixInNvfp4KeepsItsScale) {
  quantize(model(), options("first", GgufMix::nvfp4, Method::rtn));
  QuantizeOptions again = options("again", GgufMix::q8_0, Method::rtn);
  again.recipe.ignore = {"re:.*q_proj"};
  const Checkpoint first = Checkpoint::open(folder_ / "first");
  quantize(first, again);
  const Checkpoint second = Checkpoint::open(folder_ / "again");
  EXPECT_EQ(second.read(second.info("blk.0.attn_q.scale")), first.read(first.info("blk.0.attn_q.scale")));
  EXPECT_EQ(second.find("blk.0.attn_k.scale"), nullptr);
  const Matrix<float> a = Weights(first, read_config(first)).weight(0, Role::q), b = Weights(second, read_config(second)).weight(0, Role::q);
  EXPECT_TRUE(std::equal(a.data(), a.data() + a.rows() * a.cols(), b.data()));
}

}  // namespace
}  // namespace neap
