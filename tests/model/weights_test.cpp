#include "model/weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "io/gguf_writer.h"
#include "model/editable_model.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"

namespace neap {
namespace {

using test::EditableModel;

constexpr std::array kAllRoles = {Role::q,    Role::k,  Role::v,   Role::o,
                                  Role::gate, Role::up, Role::down};

Weights weights_of(const Checkpoint& checkpoint) { return {checkpoint, read_config(checkpoint)}; }
Weights weights_of(EditableModel& model) { return weights_of(model.open()); }

std::vector<float> values(const Matrix<float>& matrix) {
  return {matrix.data(), matrix.data() + matrix.rows() * matrix.cols()};
}
std::vector<float> embedding(const Weights& weights) {
  std::vector<TokenId> ids(static_cast<std::size_t>(weights.config().vocabulary));
  std::iota(ids.begin(), ids.end(), 0);
  Matrix<float> rows(ids.size(), static_cast<std::size_t>(weights.config().hidden));
  weights.embed(ids, rows);
  return values(rows);
}

class GgufWeights : public testing::TestWithParam<const char*> {};

TEST_P(GgufWeights, AreThoseOfHuggingFaceByNameAndRow) {
  const std::string name = GetParam();
  const Weights hf = weights_of(Checkpoint::open(EditableModel::folder_of(name)));
  const Weights gguf = weights_of(Checkpoint::open(NEAP_GOLDEN_DIR "/gguf/" + name + ".gguf"));
  ASSERT_EQ(gguf.config().layers, hf.config().layers);
  for (std::int64_t layer = 0; layer < hf.config().layers; ++layer) {
    for (const Role role : kAllRoles) {
      EXPECT_EQ(values(gguf.weight(layer, role)), values(hf.weight(layer, role)))
          << module_name(layer, role);
      EXPECT_EQ(gguf.bias(layer, role), hf.bias(layer, role)) << module_name(layer, role);
    }
    const Block a = gguf.block(layer, Precision::f32), b = hf.block(layer, Precision::f32);
    EXPECT_EQ(a.input_norm, b.input_norm);
    EXPECT_EQ(a.mlp_norm, b.mlp_norm);
    EXPECT_EQ(a.q_norm, b.q_norm);
    EXPECT_EQ(a.k_norm, b.k_norm);
  }
  EXPECT_EQ(gguf.final_norm(), hf.final_norm());
  EXPECT_EQ(embedding(gguf), embedding(hf));
  EXPECT_EQ(values(gguf.head()), values(hf.head()));
}

INSTANTIATE_TEST_SUITE_P(Families, GgufWeights,
                         testing::Values("llama2", "llama31", "llama-linear", "llama-bias", "qwen2",
                                         "qwen3", "smollm2", "smollm3"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::erase(name, '-');
                           return name;
                         });

// blk.0.attn_q.weight alone is in NVFP4: 64 x 64 values, each 6 under a group scale of 1.
std::string nvfp4_gguf(const std::string& path, const std::vector<TensorSpec>& scales, float scale) {
  const Checkpoint source = Checkpoint::open(NEAP_GOLDEN_DIR "/gguf/llama2.gguf");
  std::vector<TensorSpec> specs;
  for (const TensorInfo& tensor : source.tensors()) {
    specs.push_back({tensor.name, tensor.name == "blk.0.attn_q.weight" ? DType::nvfp4 : tensor.type, tensor.shape});
  }
  specs.insert(specs.end(), scales.begin(), scales.end());
  GgufWriter writer(path, source.gguf()->metadata(), specs);
  for (const TensorInfo& tensor : source.tensors()) {
    if (tensor.name != "blk.0.attn_q.weight") writer.write(tensor.name, source.bytes(tensor));
  }
  std::vector<std::byte> blocks(64 * 36, std::byte{0x77});
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    if (i % 36 < 4) blocks[i] = std::byte{0x38};
  }
  writer.write("blk.0.attn_q.weight", blocks);
  const std::vector<float> values(4, scale);
  for (const TensorSpec& spec : scales) writer.write(spec.name, std::as_bytes(std::span(values)).first(stored_bytes(spec)));
  writer.finish();
  return writer.first_file();
}

TEST(Weights, ANormInABlockTypeIsRefused) {
  const test::TempFolder folder;
  const Checkpoint source = Checkpoint::open(NEAP_GOLDEN_DIR "/gguf/llama2.gguf");
  std::vector<TensorSpec> specs;
  for (const TensorInfo& tensor : source.tensors()) specs.push_back({tensor.name, tensor.name == "blk.0.attn_norm.weight" ? DType::q8_0 : tensor.type, tensor.shape});
  GgufWriter writer(folder / "norm", source.gguf()->metadata(), specs);
  for (const TensorInfo& tensor : source.tensors()) {
    const std::vector<std::byte> blocks(2 * block_bytes(DType::q8_0));
    writer.write(tensor.name, tensor.name == "blk.0.attn_norm.weight" ? std::span(blocks) : source.bytes(tensor));
  }
  writer.finish();
  EXPECT_ERROR(weights_of(Checkpoint::open(writer.first_file())), ErrorCode::unsupported, "blk.0.attn_norm.weight");
}

TEST(Weights, AMatrixInNvfp4IsMultipliedByItsScale) {
  const test::TempFolder folder;
  const auto open = [&](const std::string& name, const std::vector<TensorSpec>& scales, float scale) {
    return weights_of(Checkpoint::open(nvfp4_gguf(folder / name, scales, scale)));
  };
  const std::vector<float> plain = values(open("plain", {}, 0).weight(0, Role::q));
  EXPECT_EQ(plain, std::vector<float>(64 * 64, 6.0f));
  const TensorSpec scale{"blk.0.attn_q.scale", DType::f32, {1}}, inputs{"blk.0.attn_q.input_scale", DType::f32, {1}};
  EXPECT_EQ(values(open("scaled", {scale, inputs}, 0.375f).weight(0, Role::q)), std::vector<float>(64 * 64, 6.0f * 0.375f));
  EXPECT_ERROR(open("negative", {scale}, -1), ErrorCode::format, "'blk.0.attn_q.scale': the scale cannot be used");
  EXPECT_ERROR(open("two", {{scale.name, DType::f32, {2}}}, 1), ErrorCode::format, "expected F32 [1], found F32 [2]");
  EXPECT_ERROR(open("other", {{"blk.0.attn_k.scale", DType::f32, {1}}}, 1), ErrorCode::format, "blk.0.attn_k.scale");
}

TEST(Weights, GgufConfigIsThatOfHuggingFace) {
  for (const std::string name :
       {"llama2", "llama-linear", "llama-bias", "qwen2", "qwen3", "smollm2"}) {
    ModelConfig hf = read_config(Checkpoint::open(EditableModel::folder_of(name)));
    const ModelConfig gguf =
        read_config(Checkpoint::open(NEAP_GOLDEN_DIR "/gguf/" + name + ".gguf"));
    hf.norm_epsilon = static_cast<float>(hf.norm_epsilon);  // GGUF stores it as one
    EXPECT_EQ(gguf, hf) << name;
  }
}

TEST(Weights, Llama3RopeFactorsComeFromTheirTensor) {
  const ModelConfig config = read_config(Checkpoint::open(NEAP_GOLDEN_DIR "/gguf/llama31.gguf"));
  EXPECT_EQ(config.rope_scaling, RopeScaling{});
  ASSERT_EQ(config.rope_factors.size(), 10u);
  EXPECT_EQ(config.rope_factors.front(), 1);
  EXPECT_EQ(config.rope_factors.back(), 8);
}

TEST(Weights, EveryMissingTensorIsNamed) {
  const EditableModel whole("llama-bias");
  for (const auto& entry : whole.tensors) {
    EditableModel model("llama-bias");
    model.tensors.erase(entry.first);
    EXPECT_ERROR(weights_of(model), ErrorCode::format, entry.first);
  }
}

TEST(Weights, EveryWrongShapeIsNamedWithBothShapes) {
  const EditableModel whole("qwen3");
  for (const auto& [name, tensor] : whole.tensors) {
    EditableModel model("qwen3");
    EditableModel::Tensor& changed = model.tensors[name];
    changed.shape.push_back(1);
    EXPECT_ERROR(weights_of(model), ErrorCode::format,
                 "'" + name + "': wrong shape (expected " + to_string(tensor.shape) + ", found " +
                     to_string(changed.shape));
  }
}

TEST(Weights, LeftOverTensorsAreNamedExceptRotaryBuffers) {
  EditableModel model("llama1");
  const EditableModel::Tensor five{DType::f32, {5}, std::vector<std::byte>(20)};
  model.tensors["model.layers.1.self_attn.rotary_emb.inv_freq"] = five;
  model.tensors["model.rotary_emb.inv_freq"] = five;
  weights_of(model);
  model.tensors["model.layers.0.self_attn.q_norm.weight"] = five;
  EXPECT_ERROR(weights_of(model), ErrorCode::format, "model.layers.0.self_attn.q_norm.weight");
}

TEST(Weights, TiedHeadMayStandInTheFileIfItSaysTheSame) {
  EditableModel model("qwen2");
  model.tensors["lm_head.weight"] = model.tensors["model.embed_tokens.weight"];
  const Weights weights = weights_of(model);
  EXPECT_EQ(values(weights.head()), embedding(weights));
  model.tensors["lm_head.weight"].bytes[10] ^= std::byte{1};
  EXPECT_ERROR(weights_of(model), ErrorCode::format, "lm_head.weight");
}

TEST(Weights, IntegersAreNoWeights) {
  EditableModel model("llama1");
  model.tensors["model.layers.0.mlp.up_proj.weight"].type = DType::i16;
  EXPECT_ERROR(weights_of(model), ErrorCode::unsupported, "I16");
}

TEST(Weights, TokensOutsideTheVocabularyAreArgumentErrors) {
  const Weights weights = weights_of(Checkpoint::open(EditableModel::folder_of("llama1")));
  Matrix<float> row(1, static_cast<std::size_t>(weights.config().hidden));
  for (const TokenId id : {-1, 259})
    EXPECT_ERROR(weights.embed(std::array{id}, row), ErrorCode::argument, std::to_string(id));
}

// Codes, scales and zeros that differ everywhere.
QuantizedTensor counting_tensor(const GroupLayout& layout, const Shape& shape) {
  QuantizedTensor tensor;
  tensor.layout = layout;
  tensor.rows = shape[0];
  tensor.cols = shape[1];
  const int levels = 1 << layout.bits;
  for (std::int64_t i = 0; i < shape[0] * shape[1]; ++i)
    tensor.codes.push_back(static_cast<std::uint8_t>((i * 7 + i / 13) % levels));
  for (std::int64_t i = 0; i < shape[0] * layout.groups(shape[1]); ++i) {
    tensor.scales.push_back(static_cast<float>(1 + i % 100) / 128);
    if (!layout.symmetric) tensor.zeros.push_back(static_cast<std::uint8_t>(i % levels));
  }
  return tensor;
}

Json packed_config(const Json& targets, const GroupLayout& layout) {
  return {{"quant_method", "compressed-tensors"},
          {"format", "pack-quantized"},
          {"ignore", {"lm_head"}},
          {"config_groups",
           {{"group_0",
             {{"targets", targets},
              {"weights",
               {{"num_bits", layout.bits},
                {"type", "int"},
                {"symmetric", layout.symmetric},
                {"strategy", layout.group == 0 ? "channel" : "group"},
                {"group_size", layout.group == 0 ? Json(nullptr) : Json(layout.group)}}}}}}}};
}

TEST(Weights, PackedModulesReadAsTheirDequantizedValues) {
  for (const GroupLayout& layout : {GroupLayout{.bits = 4, .group = 32, .symmetric = true},
                                    GroupLayout{.bits = 3, .group = 16, .symmetric = false},
                                    GroupLayout{.bits = 8, .group = 0, .symmetric = true}}) {
    EditableModel model("llama2");
    const ModelConfig config = read_config(model.open());
    model.config["quantization_config"] = packed_config({"re:.*up_proj"}, layout);
    const QuantizedTensor tensor = counting_tensor(layout, module_shape(config, Role::up));
    for (std::int64_t layer = 0; layer < config.layers; ++layer)
      model.pack(module_name(layer, Role::up), tensor);
    Matrix<float> expected(static_cast<std::size_t>(tensor.rows),
                           static_cast<std::size_t>(tensor.cols));
    dequantize(tensor, 0, tensor.rows, expected);
    EXPECT_EQ(values(weights_of(model).weight(1, Role::up)), values(expected));
  }
}

TEST(Weights, PackedHeadIsReadInPartsToo) {
  EditableModel model("llama2");
  const GroupLayout layout{.bits = 8, .group = 32, .symmetric = true};
  const QuantizedTensor tensor = counting_tensor(layout, {259, 64});
  model.config["quantization_config"] = packed_config({"lm_head"}, layout);
  model.config["quantization_config"]["ignore"] = Json::array();
  model.pack("lm_head", tensor);
  Matrix<float> expected(259, 64);
  dequantize(tensor, 0, 259, expected);
  EXPECT_EQ(values(weights_of(model).head()), values(expected));
}

TEST(Weights, PackedModulesAreCheckedAtLoad) {
  const GroupLayout layout{.bits = 4, .group = 32, .symmetric = false};
  const std::string module = "model.layers.1.mlp.gate_proj";
  const auto packed = [&](EditableModel& model) {
    model.config["quantization_config"] = packed_config({module}, layout);
    model.pack(module, counting_tensor(layout, {44, 64}));
  };
  for (const char* suffix :
       {".weight_packed", ".weight_scale", ".weight_zero_point", ".weight_shape"}) {
    EditableModel model("llama2");
    packed(model);
    weights_of(model);
    model.tensors.erase(module + suffix);
    EXPECT_ERROR(weights_of(model), ErrorCode::format, module + suffix);
  }
  EditableModel model("llama2");
  packed(model);
  model.tensors[module + ".weight_shape"].bytes[0] = std::byte{45};
  EXPECT_ERROR(weights_of(model), ErrorCode::format, "[45, 64]");
  EditableModel dense("llama2");  // the config says packed, the file has it dense
  dense.config["quantization_config"] = packed_config({module}, layout);
  EXPECT_ERROR(weights_of(dense), ErrorCode::format, module + ".weight_packed");
}

TEST(Weights, OtherQuantizationsAreRefusedByName) {
  EditableModel model("llama1");
  model.config["quantization_config"] = {{"quant_method", "awq"}, {"bits", 4}};
  EXPECT_ERROR(weights_of(model), ErrorCode::unsupported, "awq");
}

}  // namespace
}  // namespace neap
