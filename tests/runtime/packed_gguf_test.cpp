// GGUF files that run from their blocks.
#include <gtest/gtest.h>

#include <cmath>

#include "model/loaded_model.h"
#include "neap/quantize.h"
#include "neap/runtime.h"
#include "support/tiny_model.h"

namespace neap {
namespace {

class PackedGguf : public testing::Test {
 protected:
  // Rows of q and k change places on the way into a file of the architecture `llama`.
  Checkpoint rounded(GgufMix mix) {
    QuantizeOptions options;
    options.recipe.scheme = Scheme::gguf;
    options.recipe.gguf = {.mix = mix, .pure = false, .allow_fallback = true};
    options.recipe.method = Method::rtn;
    options.recipe.refits = 0;
    options.output = folder_ / std::string(name_of(mix));
    quantize(Checkpoint::open(model_), options);
    return Checkpoint::open(options.output);
  }

  test::TempFolder folder_;
  const std::string model_ = test::tiny_model(folder_, "llama2");
};

struct Pass {
  Matrix<float> states;
  std::size_t weight_bytes = 0;
};

Pass run_of(const Checkpoint& checkpoint, const LoadOptions& options) {
  const auto model = load_model(checkpoint, options);
  std::vector<TokenId> tokens;
  for (int i = 0; i < 64; ++i) tokens.push_back(static_cast<TokenId>(3 + i * 31 % 200));
  Pass pass{.states = Matrix<float>(tokens.size(), static_cast<std::size_t>(model->config().hidden))};
  model->forward(tokens, 32, pass.states);
  dynamic_cast<LoadedModel&>(*model).visit_blocks([&](const Block& block) {
    for (const auto& linear : block.linears) pass.weight_bytes += linear->cost().bytes;
  });
  return pass;
}

double distance(const Matrix<float>& found, const Matrix<float>& want) {
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < want.rows() * want.cols(); ++i) {
    difference += std::pow(static_cast<double>(found.data()[i]) - want.data()[i], 2);
    norm += std::pow(static_cast<double>(want.data()[i]), 2);
  }
  return std::sqrt(difference / norm);
}

TEST_F(PackedGguf, GivesWhatItsWeightsGiveWhenDecoded) {
  for (const GgufMix mix : {GgufMix::q4_0, GgufMix::q8_0, GgufMix::mxfp4, GgufMix::nvfp4}) {
    const Checkpoint checkpoint = rounded(mix);
    const Pass decoded = run_of(checkpoint, {.precision = Precision::f32});
    const Pass bf16 = run_of(checkpoint, {.precision = Precision::bf16, .packed = packed_linears()});
    const Pass int8 = run_of(checkpoint, {.precision = Precision::f32, .packed = packed_linears({.int8_inputs = true})});
    EXPECT_LT(distance(bf16.states, decoded.states), 0.02) << name_of(mix);
    EXPECT_LT(distance(int8.states, decoded.states), 0.03) << name_of(mix);
    // A layer that fallback left dense has four bytes a weight, or two in bf16.
    EXPECT_LT(int8.weight_bytes, decoded.weight_bytes / 2) << name_of(mix);
    EXPECT_LT(bf16.weight_bytes, decoded.weight_bytes * 2 / 5) << name_of(mix);
  }
}

TEST_F(PackedGguf, BlocksAreKeptWherePackedOnesFit) {
  const Checkpoint checkpoint = rounded(GgufMix::q8_0);
  const std::uint64_t all = run_of(checkpoint, {.precision = Precision::bf16, .packed = packed_linears()}).weight_bytes;
  const auto keeps = [&](std::uint64_t memory) {
    const LoadOptions options{.precision = Precision::bf16, .max_memory = memory, .packed = packed_linears()};
    return LoadedModel(Weights(checkpoint, read_config(checkpoint)), options).keeps_blocks();
  };
  EXPECT_TRUE(keeps(all));
  EXPECT_FALSE(keeps(all - 1));
}

TEST_F(PackedGguf, TypesWithoutAKernelAreDecoded) {
  const Checkpoint checkpoint = rounded(GgufMix::iq4_nl);
  const Pass decoded = run_of(checkpoint, {.precision = Precision::f32});
  const Pass packed = run_of(checkpoint, {.precision = Precision::f32, .packed = packed_linears({.int8_inputs = true})});
  EXPECT_EQ(distance(packed.states, decoded.states), 0);
}

}  // namespace
}  // namespace neap
