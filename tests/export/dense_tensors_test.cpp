#include "export/dense_tensors.h"

#include <cmath>
#include <limits>

#include "base/half.h"
#include "export/support.h"

namespace neap {
namespace {

TEST(ToBytes, RoundsToNearestEvenAndRefusesWhatOverflows) {
  const std::vector<float> values = {1.0f, -0.1f, 65504.0f, 65519.0f, 1e-8f, 0.0f};
  const auto bytes = to_bytes(values.data(), values.size(), DType::f16, "t");
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = static_cast<Fp16>(static_cast<unsigned>(bytes[2 * i]) |
                                        static_cast<unsigned>(bytes[2 * i + 1]) << 8);
    EXPECT_EQ(bits, float_to_fp16(values[i]));
  }
  const float large = 65520.0f;
  EXPECT_EQ(error_of([&] { to_bytes(&large, 1, DType::f16, "t"); }).context().tensor, "t");
  EXPECT_EQ(to_bytes(&large, 1, DType::bf16, "t").size(), 2u);
  const float infinite = std::numeric_limits<float>::infinity();  // the source's own business
  EXPECT_EQ(to_bytes(&infinite, 1, DType::f16, "t").size(), 2u);
}

TEST(ListOutput, EveryModelIsListedOnceInTheOrderOfAForwardPass) {
  const Weights weights = open_weights(golden_model("qwen3"));
  const auto items = list_output(weights, {"model.layers.0.self_attn.q_proj"});
  EXPECT_EQ(items.size(), weights.checkpoint().tensors().size());
  EXPECT_EQ(items.front().tensor.spec.name, "model.embed_tokens.weight");
  EXPECT_EQ(items[1].tensor.spec.name, "model.layers.0.input_layernorm.weight");
  EXPECT_EQ(items[2].module, "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(items.back().tensor.spec.name, "model.norm.weight");
}

TEST(ListOutput, BlockTypesBecomeF16AndVectorsF32) {
  const Weights weights = open_weights(golden_gguf("smollm2"));
  for (const OutputItem& item : list_output(weights, {})) {
    const TensorSpec& spec = item.tensor.spec;
    const DType source = item.tensor.source_type;
    const DType matrix = block_elements(source) > 1 ? DType::f16 : source;
    EXPECT_EQ(spec.type, spec.shape.size() == 1 ? DType::f32 : matrix) << spec.name;
  }
}

}  // namespace
}  // namespace neap
