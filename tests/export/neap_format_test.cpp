// Neap's own container: written, read back and compared as every output is, and its bytes of
// version 1.
#include <cmath>
#include <numeric>

#include "codec/lobcq_support.h"
#include "export/support.h"
#include "io/json.h"

namespace neap {
namespace {

CodebookSet random_set(const LobcqLayout& layout) {
  return {layout, random_codebooks(layout, 1), random_codebooks(layout, 2)};
}

WeightLayouts all_layers(const ModelConfig& config, const LobcqLayout& layout) {
  WeightLayouts layouts;
  for (const std::string& module : linear_modules(config)) {
    if (module != "lm_head") layouts[module] = layout;
  }
  return layouts;
}

class NeapFormatTest : public ScratchTest {
 protected:
  // Random tensors of every module; what was written.
  std::map<std::string, DecidedLayer> export_random(const Weights& source, const CodebookSet& set,
                                                    InputScales inputs, const std::string& name) {
    const WeightLayouts layouts = all_layers(source.config(), set.layout);
    ModelWriter writer(source, layouts, make_neap_format(set, inputs), {.output = at(name)});
    std::map<std::string, DecidedLayer> layers;
    std::uint32_t seed = 1;
    for (const auto& [module, layout] : layouts) {
      const Shape shape = linear_shape(source.config(), module);
      DecidedLayer& layer = layers[module];
      layer.weight = random_lobcq(set.layout, shape[0], shape[1], ++seed);
      if (inputs == InputScales::fixed)
        layer.input_scale = std::ldexp(1.0f, -static_cast<int>(seed));
      writer.write(module, layer);
    }
    writer.finish();
    return layers;
  }
};

TEST_F(NeapFormatTest, EveryArchitectureAndWayToEncodeInputsIsReadBack) {
  const LobcqLayout layout{.block_array = 32, .block = 4, .codebooks = 16};
  for (const std::string name :
       {"llama-bias", "llama31", "qwen2-sliding-sharded", "qwen3", "smollm3"}) {
    for (const InputScales inputs : {InputScales::none, InputScales::fixed, InputScales::dynamic}) {
      const CodebookSet set = random_set(layout);
      const std::string folder = name + std::to_string(static_cast<int>(inputs));
      const auto layers = export_random(open_weights(golden_model(name)), set, inputs, folder);
      const Weights output = open_weights(at(folder));
      for (const auto& [module, layer] : layers) {
        EXPECT_EQ(*output.packed_weight(module), layer.weight) << module;
        const auto stored = output.stored_inputs(module);
        EXPECT_EQ(stored.has_value(), inputs != InputScales::none);
        EXPECT_EQ(stored ? std::get<InputEncoder>(*stored).tensor_scale : std::nullopt, layer.input_scale);
      }
      EXPECT_EQ(output.codebooks().has_value(), inputs != InputScales::none);
    }
  }
}

TEST_F(NeapFormatTest, HoldsOneLobcqLayoutAndNoHead) {
  const Weights source = open_weights(golden_model("llama31"));
  const CodebookSet set = random_set({});
  const auto refused = [&](const std::string& module, const WeightLayout& layout) {
    WeightLayouts layouts = all_layers(source.config(), set.layout);
    layouts[module] = layout;
    const Error error = error_of([&] {
      ModelWriter(source, layouts, make_neap_format(set, InputScales::none), {.output = at("out")});
    });
    EXPECT_EQ(error.code(), ErrorCode::argument);
    EXPECT_EQ(error.context().tensor, module);
  };
  refused("model.layers.0.mlp.up_proj", GroupLayout{});
  refused("model.layers.0.mlp.up_proj", LobcqLayout{.block_array = 32, .block = 8, .codebooks = 8});
  refused("lm_head", set.layout);
  EXPECT_EQ(entries(), 0u);
}

TEST_F(NeapFormatTest, AnOutputIsNotQuantizedAgain) {
  export_random(open_weights(golden_model("llama31")), random_set({}), InputScales::none, "a");
  const Weights output = open_weights(at("a"));
  const Error error = error_of([&] {
    ModelWriter(output, all_layers(output.config(), {}),
                make_neap_format(random_set({}), InputScales::none), {.output = at("b")});
  });
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
}

// Every byte of the file is either noticed by the readers or by the comparison.
TEST_F(NeapFormatTest, VerificationNoticesAFlippedBitAnywhere) {
  const auto layers = export_random(open_weights(golden_model("llama2")), random_set({}),
                                    InputScales::fixed, "out");
  std::map<std::string, QuantizedWeight> weights;
  for (const auto& [module, layer] : layers) weights[module] = layer.weight;
  expect_flips_noticed(at("out"), expectation_of(at("out"), weights), 200);
}

TEST_F(NeapFormatTest, EveryTruncationOfTheFileIsRefused) {
  export_random(open_weights(golden_model("llama31")), random_set({}), InputScales::fixed, "out");
  expect_truncations_refused(at("out"));
}

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte b : bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    text += kDigits[std::to_integer<int>(b) / 16];
    text += kDigits[std::to_integer<int>(b) % 16];
  }
  return text;
}

// Version 1 stays what it is: written out by hand from docs/formats.
TEST_F(NeapFormatTest, BytesOfVersionOne) {
  const LobcqLayout layout{.block_array = 16, .block = 8, .codebooks = 4};
  LobcqTensor tensor{.layout = layout,
                     .rows = 2,
                     .cols = 18,
                     .codes = {},
                     .selectors = {},
                     .scales = {0x38, 0xb9, 0x00, 0x7e},
                     .tensor_scale = 0.25f};
  tensor.codes.resize(36);
  std::iota(tensor.codes.begin(), tensor.codes.begin() + 16, std::uint8_t{0});
  tensor.codes[16] = 9, tensor.codes[17] = 10, tensor.codes[34] = 15, tensor.codes[35] = 1;
  tensor.selectors = {1, 2, 3, 0, 0, 2};
  CodebookSet set{layout, Codebooks(4), Codebooks(4)};
  for (Codebook& book : set.weights) std::iota(book.begin(), book.end(), std::int8_t{-8});
  const auto format = make_neap_format(set, InputScales::fixed);
  const auto parts = format->parts(layout, {2, 18});
  const auto bytes = format->encode({tensor, 4.0f});
  const std::vector<std::pair<std::string, std::string>> expected = {
      {".weight_packed",
       "1032547698badcfea9000000"
       "00000000000000001f000000"},
      {".weight_selector",
       "39"
       "20"},
      {".weight_scale",
       "38b9"
       "007e"},
      {".weight_global_scale", "0000803e"},
      {".weight_shape",
       "0200000000000000"
       "1200000000000000"},
      {".input_global_scale", "00008040"}};
  ASSERT_EQ(parts.size(), expected.size());
  ASSERT_EQ(bytes.size(), expected.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    EXPECT_EQ(parts[i].suffix, expected[i].first);
    EXPECT_EQ(hex(bytes[i]), expected[i].second) << parts[i].suffix;
  }
  const auto shared = format->shared();
  ASSERT_EQ(shared.size(), 2u);
  EXPECT_EQ(shared[0].spec.name, "lobcq.weight_codebooks");
  EXPECT_EQ(hex(shared[0].bytes).substr(0, 32), "f8f9fafbfcfdfeff0001020304050607");
  EXPECT_EQ(shared[1].spec.name, "lobcq.activation_codebooks");
  const Weights source = open_weights(golden_model("llama31"));
  EXPECT_EQ(
      format->quantization_config(source.config(), all_layers(source.config(), layout)).dump(),
      R"({"quant_method":"neap","version":1,"scheme":"lobcq","block_array":16,"block":8,"num_codebooks":4,)"
      R"("activations":"static","ignore":["lm_head"]})");
}

}  // namespace
}  // namespace neap
