#include "quantize/balance.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/half.h"
#include "neap/error.h"
#include "support/tiny_model.h"

namespace neap {
namespace {

constexpr Precision kExact = Precision::f32;

TokenWindows some_windows() {
  TokenWindows result;
  for (std::size_t w = 0; w < 6; ++w) {
    std::vector<TokenId> ids(60);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<TokenId>((31 * w + 7 * i * i) % 259);
    result.windows.push_back(ids);
  }
  return result;
}

class BalanceTest : public testing::TestWithParam<const char*> {
 protected:
  BalanceTest()
      : checkpoint_(Checkpoint::open(test::tiny_model(folder_, GetParam()))),
        weights_(checkpoint_, read_config(checkpoint_)),
        streams_(weights_, windows_, {.reference = false, .precision = kExact, .memory = 1 << 24, .scratch = folder_.path()}) {}

  Plan plan(std::vector<std::string> ignore = {}) {
    Recipe recipe;
    recipe.group = 0;
    recipe.ignore = std::move(ignore);
    return make_plan(recipe, weights_.config());
  }
  Balance balance(const Block& block, std::vector<std::string> ignore = {}) {
    return Balance(weights_, plan(std::move(ignore)), streams_, block);
  }
  // What a block makes of inputs that no window holds.
  Matrix<float> output(const Block& block) {
    const std::size_t tokens = 40;
    Matrix<float> x(tokens, static_cast<std::size_t>(weights_.config().hidden));
    for (std::size_t i = 0; i < x.rows() * x.cols(); ++i) x.data()[i] = static_cast<float>(std::sin(0.37 * static_cast<double>(i)));
    forward_block(weights_.config(), block, make_rope_table(weights_.config(), tokens), kExact, tokens, x);
    return x;
  }

  test::TempFolder folder_;
  TokenWindows windows_ = some_windows();
  Checkpoint checkpoint_;
  Weights weights_;
  Streams streams_;
};

// Shared key-value heads, biases everywhere, norms of queries and keys.
INSTANTIATE_TEST_SUITE_P(Models, BalanceTest, testing::Values("llama2", "llama31", "llama-bias", "qwen2", "qwen3", "smollm2"));

TEST_P(BalanceTest, TheBlockComputesTheSame) {
  for (std::int64_t layer = 0; layer < weights_.config().layers; ++layer) {
    const Block block = weights_.block(layer, kExact);
    const Matrix<float> before = output(block), after = output(balance(block).apply(block, kExact));
    double largest = 0;
    for (std::size_t i = 0; i < before.rows() * before.cols(); ++i) largest = std::max<double>(largest, std::abs(before.data()[i]));
    for (std::size_t i = 0; i < before.rows() * before.cols(); ++i) {
      ASSERT_NEAR(before.data()[i], after.data()[i], 2e-5 * largest) << layer;
    }
  }
}

TEST_P(BalanceTest, InputsAndTheirColumnsHaveTheSameEnergy) {
  const Block before = weights_.block(0, kExact);
  const Balance balanced = balance(before);
  const Block block = balanced.apply(before, kExact);
  for (const Stage stage : {Stage::attention_input, Stage::mlp_input, Stage::mlp_hidden}) {
    std::vector<double> inputs(width_of(weights_.config(), stage)), columns(inputs.size());
    streams_.visit_block(block, 4, [&](Stage at, MatrixView<const float> x) {
      for (std::size_t t = 0; at == stage && t < x.rows; ++t) {
        for (std::size_t c = 0; c < x.cols; ++c) inputs[c] += static_cast<double>(x(t, c)) * x(t, c);
      }
    });
    // The norms' factors are for the columns as they were, before rows of v and up change as well.
    const std::vector<float>& old_norm = stage == Stage::mlp_input ? before.mlp_norm : before.input_norm;
    const std::vector<float>& norm = stage == Stage::mlp_input ? block.mlp_norm : block.input_norm;
    for (const Role role : roles_of(stage)) {
      const Matrix<float> w = stage == Stage::mlp_hidden ? balanced.weight(role) : weights_.weight(0, role);
      for (std::size_t r = 0; r < w.rows(); ++r) {
        for (std::size_t c = 0; c < w.cols(); ++c) {
          const double factor = stage == Stage::mlp_hidden ? 1 : old_norm[c] / norm[c];
          columns[c] += factor * factor * w(r, c) * w(r, c);
        }
      }
    }
    const double ratio = inputs[0] / columns[0];
    for (std::size_t c = 0; c < inputs.size(); ++c) EXPECT_NEAR(inputs[c] / columns[c] / ratio, 1, 0.035) << c;
  }
}

TEST_P(BalanceTest, WhatIsNotQuantizedIsNotChanged) {
  const Block block = weights_.block(0, kExact);
  const Balance balanced = balance(block, {"re:.*(q|k|v|gate|up)_proj"});
  std::vector<std::string> written;
  balanced.write_dense({.quantized = {}, .dense = [&](const std::string& name, MatrixView<const float>) { written.push_back(name); }});
  EXPECT_TRUE(written.empty());
  for (std::size_t r = 0; r < kRoles; ++r) {
    const auto role = static_cast<Role>(r);
    const Matrix<float> before = weights_.weight(0, role), after = balanced.weight(role);
    for (std::size_t i = 0; i < before.rows() * before.cols(); ++i) ASSERT_EQ(before.data()[i], after.data()[i]);
  }
}

TEST_P(BalanceTest, NormsAreWrittenAsTheTypeHoldsThem) {
  std::map<std::string, std::vector<float>> written;
  const Block block = weights_.block(1, kExact);
  balance(block).write_dense({.quantized = {}, .dense = [&](const std::string& name, MatrixView<const float> v) {
                                written[name].assign(v.data, v.data + v.cols);
                              }});
  for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) {
    const auto& values = written.at("model.layers.1." + std::string(norm) + ".weight");
    ASSERT_EQ(values.size(), block.input_norm.size());
    for (const float v : values) {
      EXPECT_EQ(v, bf16_to_float(float_to_bf16(v)));
      EXPECT_EQ(v, fp16_to_float(float_to_fp16(v)));
    }
  }
  EXPECT_EQ(written.contains("model.layers.1.self_attn.v_proj.bias"), module_has_bias(weights_.config(), Role::v));
}

}  // namespace
}  // namespace neap
