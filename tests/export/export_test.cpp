#include <cstring>
#include <fstream>

#include "export/support.h"
#include "export/verify.h"
#include "io/json.h"

namespace neap {
namespace {

namespace fs = std::filesystem;

constexpr std::array kRoles7 = {Role::q,    Role::k,  Role::v,   Role::o,
                                Role::gate, Role::up, Role::down};
const std::vector<std::string> kModels = {
    "llama1",        "llama2",  "llama31",       "llama-linear",          "llama-bias",
    "mistral",       "qwen2",   "qwen2-sliding", "qwen2-sliding-sharded", "qwen3",
    "qwen3-sharded", "smollm2", "smollm3"};

class ExportTest : public ScratchTest {};

void expect_weights(const Weights& output, const Tensors& tensors) {
  for (std::int64_t layer = 0; layer < output.config().layers; ++layer) {
    for (const Role role : kRoles7) {
      const auto tensor = tensors.find(module_name(layer, role));
      if (tensor == tensors.end()) continue;
      const Matrix<float> found = output.weight(layer, role);
      Matrix<float> expected(found.rows(), found.cols());
      dequantize(tensor->second, 0, tensor->second.rows, expected);
      EXPECT_EQ(std::memcmp(found.data(), expected.data(), 4 * found.rows() * found.cols()), 0)
          << tensor->first;
    }
  }
}

TEST_F(ExportTest, NeapReadsBackEveryArchitectureBitForBit) {
  for (const std::string& name : kModels) {
    const Weights source = open_weights(golden_model(name));
    const Layouts layouts = uniform_layouts(source.config(), {3, 0, false, DType::bf16});
    const Tensors tensors = random_tensors(source.config(), layouts);
    export_tensors(source, layouts, tensors, {.output = at(name)});
    const Weights output = open_weights(at(name));
    EXPECT_EQ(output.config(), source.config()) << name;
    expect_weights(output, tensors);
    for (const TensorInfo& info : source.checkpoint().tensors()) {
      const std::string module = info.name.substr(0, info.name.rfind('.'));
      if (info.name.ends_with(".weight") && layouts.contains(module)) continue;
      const TensorInfo& copy = output.checkpoint().info(info.name);
      const auto a = source.checkpoint().bytes(info), b = output.checkpoint().bytes(copy);
      EXPECT_EQ(copy.type, info.type);
      EXPECT_TRUE(std::ranges::equal(a, b)) << info.name;
    }
  }
}

TEST_F(ExportTest, EveryLayoutOfTheFormatComesBack) {
  const Weights source = open_weights(golden_model("qwen2"));
  for (int bits = 1; bits <= 8; ++bits) {
    for (const std::int64_t group : {0, 12}) {
      for (const bool symmetric : {true, false}) {
        const GroupLayout layout{bits, group, symmetric, bits % 2 == 0 ? DType::f16 : DType::f32};
        const Layouts layouts = uniform_layouts(source.config(), layout);
        const Tensors tensors = random_tensors(source.config(), layouts);
        export_tensors(source, layouts, tensors, {.output = at("out"), .overwrite = true});
        expect_weights(open_weights(at("out")), tensors);
      }
    }
  }
}

TEST_F(ExportTest, LayoutsMayDifferModulesMayStayDenseAndATiedHeadIsUntied) {
  const Weights source = open_weights(golden_model("smollm2"));
  Layouts layouts = uniform_layouts(source.config(), {3, 0, false, DType::bf16});
  layouts["model.layers.0.mlp.down_proj"] = {8, 4, true, DType::bf16};
  layouts["model.layers.1.self_attn.q_proj"] = {4, 0, true, DType::f16};
  layouts["lm_head"] = {6, 0, true, DType::f16};
  layouts.erase("model.layers.0.self_attn.o_proj");
  ASSERT_TRUE(source.config().tied_head);
  const Tensors tensors = random_tensors(source.config(), layouts);
  export_tensors(source, layouts, tensors, {.output = at("out")});
  const Weights output = open_weights(at("out"));
  EXPECT_FALSE(output.config().tied_head);
  expect_weights(output, tensors);
  const Matrix<float> dense = output.weight(0, Role::o), original = source.weight(0, Role::o);
  EXPECT_EQ(std::memcmp(dense.data(), original.data(), 4 * dense.rows() * dense.cols()), 0);
  const Matrix<float> head = output.head();
  Matrix<float> expected(head.rows(), head.cols());
  dequantize(tensors.at("lm_head"), 0, tensors.at("lm_head").rows, expected);
  EXPECT_EQ(std::memcmp(head.data(), expected.data(), 4 * head.rows() * head.cols()), 0);
}

TEST_F(ExportTest, AGgufBecomesTheSameModelUnderHuggingFacesNames) {
  for (const std::string name :
       {"llama2", "llama-bias", "llama-linear", "qwen2", "qwen3", "smollm2", "smollm3"}) {
    const Weights source = open_weights(golden_gguf(name));
    Layouts layouts = uniform_layouts(source.config(), {4, 0, true, DType::f16});
    std::erase_if(layouts, [](const auto& layer) { return layer.first.ends_with("q_proj"); });
    const Tensors tensors = random_tensors(source.config(), layouts);
    export_tensors(source, layouts, tensors, {.output = at(name)});
    const Weights output = open_weights(at(name));
    expect_weights(output, tensors);
    for (std::int64_t layer = 0; layer < source.config().layers; ++layer) {
      const Matrix<float> a = source.weight(layer, Role::q), b = output.weight(layer, Role::q);
      EXPECT_TRUE(std::equal(a.data(), a.data() + a.rows() * a.cols(), b.data())) << name;
      for (const Role role : kRoles7) EXPECT_EQ(source.bias(layer, role), output.bias(layer, role));
    }
    EXPECT_EQ(source.final_norm(), output.final_norm());
    const Matrix<float> a = source.head(), b = output.head();
    EXPECT_TRUE(std::equal(a.data(), a.data() + a.rows() * a.cols(), b.data())) << name;
  }
}

TEST_F(ExportTest, BytesDoNotDependOnTheOrderOfWritingOrOnThreads) {
  const Weights source = open_weights(golden_model("qwen3"));
  const Layouts layouts = uniform_layouts(source.config(), {3, 4, false, DType::bf16});
  const Tensors tensors = random_tensors(source.config(), layouts);
  export_tensors(source, layouts, tensors, {.output = at("a")});
  ModelWriter writer = make_writer(source, layouts, {.output = at("b")});
  for (auto layer = tensors.rbegin(); layer != tensors.rend(); ++layer)
    writer.write(layer->first, {layer->second, {}});
  writer.finish();
  for (const char* file : {"model.safetensors", "config.json"}) {
    EXPECT_EQ(read_text_file(at("a/") + file), read_text_file(at("b/") + file));
  }
}

TEST_F(ExportTest, SizesAreKnownFromTheBeginningAndShardsKeepTheirs) {
  const Weights source = open_weights(golden_model("llama31"));
  const Layouts layouts = uniform_layouts(source.config(), {4, 12, true, DType::bf16});
  const Tensors tensors = random_tensors(source.config(), layouts);
  ModelWriter writer = make_writer(source, layouts, {.output = at("out"), .max_shard_bytes = 20000});
  const std::uint64_t bytes = writer.tensor_bytes();
  for (const auto& [module, tensor] : tensors) writer.write(module, {tensor, {}});
  writer.finish();
  std::uint64_t found = 0;
  const Checkpoint output = Checkpoint::open(at("out"));
  for (const TensorInfo& info : output.tensors()) found += info.bytes;
  EXPECT_EQ(found, bytes);
  EXPECT_TRUE(fs::exists(at("out/model.safetensors.index.json")));
  std::int64_t weights = 0;
  for (const TensorInfo& info : source.checkpoint().tensors()) {
    weights += static_cast<std::int64_t>(info.bytes / block_bytes(info.type));
  }
  EXPECT_DOUBLE_EQ(writer.bits_per_weight(),
                   8.0 * static_cast<double>(bytes) / static_cast<double>(weights));
}

TEST_F(ExportTest, ATensorThatTheCallerChangedIsRoundedToItsType) {
  const Weights source = open_weights(golden_model("llama31"));  // bf16
  const Layouts layouts = uniform_layouts(source.config(), {4, 12, true, DType::bf16});
  ModelWriter writer = make_writer(source, layouts, {.output = at("out")});
  for (const auto& [module, tensor] : random_tensors(source.config(), layouts))
    writer.write(module, {tensor, {}});
  Matrix<float> norm(1, static_cast<std::size_t>(source.config().hidden));
  for (std::size_t i = 0; i < norm.cols(); ++i) norm(0, i) = 1 + 0.001f * static_cast<float>(i);
  writer.write_dense("model.layers.1.input_layernorm.weight", norm);
  writer.finish();
  const Checkpoint output = Checkpoint::open(at("out"));
  const std::vector<float> found =
      output.read(output.info("model.layers.1.input_layernorm.weight"));
  for (std::size_t i = 0; i < found.size(); ++i)
    EXPECT_EQ(found[i], stored(norm(0, i), DType::bf16));
}

TEST_F(ExportTest, WithoutFinishNothingRemains) {
  const Weights source = open_weights(golden_model("qwen2"));
  const Layouts layouts = uniform_layouts(source.config(), {4, 12, true, DType::bf16});
  {
    ModelWriter writer = make_writer(source, layouts, {.output = at("deep/out")});
    writer.write_file("report.json", "{}");
    EXPECT_EQ(entries(), 1u);
  }
  EXPECT_EQ(entries(), 0u);
}

TEST_F(ExportTest, CancellingAtAnyPointLeavesNothing) {
  const Weights source = open_weights(golden_model("qwen2"));
  const Layouts layouts = uniform_layouts(source.config(), {4, 12, true, DType::bf16});
  const Tensors tensors = random_tensors(source.config(), layouts);
  int calls = 0;
  const auto count = [&](const Progress&) { return ++calls, true; };
  export_tensors(source, layouts, tensors, {.output = at("whole"), .progress = count});
  ASSERT_GT(calls, 10);
  for (int stop = 1; stop <= calls; ++stop) {
    int now = 0;
    const auto cancel = [&](const Progress&) { return ++now < stop; };
    const Error error = error_of([&] {
      export_tensors(source, layouts, tensors, {.output = at("out"), .progress = cancel});
    });
    EXPECT_EQ(error.code(), ErrorCode::cancelled);
    EXPECT_EQ(entries(), 1u);
  }
}

TEST_F(ExportTest, WhatTheFormatCannotHoldIsRefusedBeforeAnyFile) {
  const Weights source = open_weights(golden_model("qwen2"));
  const auto refusal = [&](const Layouts& layouts) {
    const Error error = error_of([&] { make_writer(source, layouts, {.output = at("out")}); });
    EXPECT_EQ(entries(), 0u);
    EXPECT_EQ(error.code(), ErrorCode::argument);
    return error.context();
  };
  Layouts layouts = uniform_layouts(source.config(), {4, 12, true, DType::bf16});
  layouts["model.layers.0.mlp.down_proj"].group = 32;  // 84 inputs
  EXPECT_EQ(refusal(layouts).tensor, "model.layers.0.mlp.down_proj");
  layouts["model.layers.0.mlp.down_proj"].group = 128;
  EXPECT_EQ(refusal(layouts).found, "128");
  layouts = {{"model.layers.9.mlp.down_proj", {}}};
  EXPECT_EQ(refusal(layouts).tensor, "model.layers.9.mlp.down_proj");
}

TEST_F(ExportTest, ASourceIsNeverReplacedByItsOwnOutput) {
  fs::copy(golden_model("qwen2"), at("m"));
  const Weights source = open_weights(at("m"));
  const Layouts layouts = uniform_layouts(source.config(), {4, 12, true, DType::bf16});
  for (const std::string& output : {at("m"), at("m/."), root_.string()}) {
    const Error error =
        error_of([&] { make_writer(source, layouts, {.output = output, .overwrite = true}); });
    EXPECT_EQ(error.code(), ErrorCode::argument) << output;
  }
  EXPECT_EQ(entries(), 1u);
}

TEST_F(ExportTest, AQuantizedModelIsNoSource) {
  const Weights source = open_weights(golden_model("qwen2"));
  const Layouts layouts = uniform_layouts(source.config(), {4, 12, true, DType::bf16});
  export_tensors(source, layouts, random_tensors(source.config(), layouts), {.output = at("a")});
  const Weights output = open_weights(at("a"));
  const Error error = error_of([&] { make_writer(output, layouts, {.output = at("b")}); });
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
}

// Every byte of the file is either noticed by the readers or by the comparison.
TEST_F(ExportTest, VerificationNoticesAFlippedBitAnywhere) {
  const Weights source = open_weights(golden_model("llama2"));
  const Layouts layouts = {{"model.layers.0.self_attn.k_proj", {3, 16, false, DType::f16}}};
  const Tensors tensors = random_tensors(source.config(), layouts);
  export_tensors(source, layouts, tensors, {.output = at("out")});

  expect_flips_noticed(at("out"), expectation_of(at("out"), {tensors.begin(), tensors.end()}), 400);
}

TEST_F(ExportTest, VerificationHoldsTheConfigurationToWhatWasMeant) {
  const Weights source = open_weights(golden_model("qwen2"));
  const Layouts layouts = uniform_layouts(source.config(), {4, 12, true, DType::bf16});
  export_tensors(source, layouts, random_tensors(source.config(), layouts), {.output = at("out")});
  Expectation expected = expectation_of(at("out"), {});
  expected.modules["model.layers.0.mlp.up_proj"] = {GroupLayout{4, 20, true, DType::bf16}, 0};
  EXPECT_EQ(
      error_of([&] { verify_output(at("out"), expected, [](std::uint64_t) {}); }).context().tensor,
      "model.layers.0.mlp.up_proj");
}

TEST_F(ExportTest, TokenizerFilesAreCopiedAsTheyAreAndNothingElse) {
  fs::copy(golden_model("qwen2"), at("m"));
  for (const char* name :
       {"tokenizer.json", "tokenizer.model", "chat_template.jinja", "README.md", "LICENSE"}) {
    std::ofstream(at("m/") + name) << "bytes of " << name;
  }
  const Weights source = open_weights(at("m"));
  const Layouts layouts = uniform_layouts(source.config(), {4, 12, true, DType::bf16});
  export_tensors(source, layouts, random_tensors(source.config(), layouts), {.output = at("out")});
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(at("out"))) names.insert(entry.path().filename());
  EXPECT_EQ(names, (std::set<std::string>{"chat_template.jinja", "config.json", "model.safetensors",
                                          "tokenizer.json", "tokenizer.model"}));
  EXPECT_EQ(read_text_file(at("out/tokenizer.model")), "bytes of tokenizer.model");
}

}  // namespace
}  // namespace neap
