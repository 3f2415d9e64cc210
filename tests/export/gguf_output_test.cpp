#include "export/gguf_model_writer.h"

#include <cstring>

#include "codec/random_gguf.h"
#include "export/support.h"
#include "io/gguf.h"
#include "io/json.h"
#include "model/editable_model.h"
#include "support/byte_tokenizer.h"

namespace neap {
namespace {

namespace fs = std::filesystem;

constexpr std::array kRoles7 = {Role::q, Role::k, Role::v, Role::o, Role::gate, Role::up, Role::down};

class GgufOutputTest : public ScratchTest {
 protected:
  // A golden model with a tokenizer.
  std::string with_tokenizer(const std::string& name) {
    fs::copy(golden_model(name), at(name), fs::copy_options::recursive);
    std::ofstream(at(name) + "/tokenizer.json") << test::byte_tokenizer_json(true);
    std::ofstream(at(name) + "/tokenizer_config.json") << R"({"bos_token": "<s>", "eos_token": "</s>"})";
    return at(name);
  }
};

// Every module whose rows are whole blocks.
GgufContents contents_for(const ModelConfig& config, DType type) {
  GgufContents contents{.mix = GgufMix::q4_1, .modules = {}, .rounded = {}, .round = {}};
  for (const std::string& module : linear_modules(config)) {
    if (module != "lm_head" && linear_shape(config, module)[1] % 32 == 0) contents.modules[module] = {type};
  }
  return contents;
}

std::map<std::string, GgufTensor> random_tensors(const ModelConfig& config, const GgufContents& contents) {
  std::map<std::string, GgufTensor> tensors;
  std::uint32_t seed = 1;
  for (const auto& [module, layout] : contents.modules) {
    const Shape shape = linear_shape(config, module);
    tensors[module] = random_gguf(layout, shape[0], shape[1], seed++);
  }
  return tensors;
}

void write_all(const Weights& source, const GgufContents& contents, const std::map<std::string, GgufTensor>& tensors,
               const ExportOptions& options) {
  const auto writer = make_gguf_output(source, contents, options);
  for (const auto& [module, tensor] : tensors) writer->write(module, {tensor, {}});
  writer->finish();
}

bool equal(const Matrix<float>& a, const Matrix<float>& b) {
  return a.rows() == b.rows() && std::memcmp(a.data(), b.data(), 4 * a.rows() * a.cols()) == 0;
}

// What was decided, or the source's own values.
void expect_same_model(const Weights& output, const Weights& source, const std::map<std::string, GgufTensor>& tensors) {
  for (std::int64_t layer = 0; layer < source.config().layers; ++layer) {
    for (const Role role : kRoles7) {
      Matrix<float> expected = source.weight(layer, role);
      const auto tensor = tensors.find(module_name(layer, role));
      if (tensor != tensors.end()) dequantize(tensor->second, 0, tensor->second.rows, expected);
      EXPECT_TRUE(equal(output.weight(layer, role), expected)) << module_name(layer, role);
      EXPECT_EQ(output.bias(layer, role), source.bias(layer, role));
    }
    const Block a = output.block(layer, Precision::f32), b = source.block(layer, Precision::f32);
    EXPECT_EQ(a.input_norm, b.input_norm);
    EXPECT_EQ(a.mlp_norm, b.mlp_norm);
    EXPECT_EQ(a.q_norm, b.q_norm);
    EXPECT_EQ(a.k_norm, b.k_norm);
  }
  EXPECT_EQ(output.final_norm(), source.final_norm());
  EXPECT_TRUE(equal(output.head(), source.head()));
  EXPECT_EQ(output.config().tied_head, source.config().tied_head);
  EXPECT_EQ(output.config().rope_theta, source.config().rope_theta);
  EXPECT_EQ(output.config().norm_epsilon, static_cast<double>(static_cast<float>(source.config().norm_epsilon)));
  EXPECT_EQ(output.config().max_positions, source.config().max_positions);
}

// Modules of llama2 (64 inputs) take blocks; those of the others stay as they are, with rows where llama.cpp has them.
TEST_F(GgufOutputTest, NeapReadsBackEveryArchitectureBitForBit) {
  for (const std::string name : {"llama1", "llama2", "llama31", "llama-linear", "llama-bias", "mistral", "qwen2", "qwen2-sliding",
                                 "qwen3", "qwen3-sharded", "smollm2"}) {
    const Weights source = open_weights(with_tokenizer(name));
    for (const DType type : {DType::q4_0, DType::q5_1, DType::iq4_nl}) {
      const GgufContents contents = contents_for(source.config(), type);
      EXPECT_EQ(contents.modules.empty(), name != "llama2");
      const auto tensors = random_tensors(source.config(), contents);
      write_all(source, contents, tensors, {.output = at("out"), .overwrite = true});
      expect_same_model(open_weights(at("out")), source, tensors);
    }
  }
}

TEST_F(GgufOutputTest, AGgufKeepsItsMetadataAndWhatIsNotQuantized) {
  for (const std::string name : {"llama2", "llama31", "llama-bias", "qwen2", "qwen3", "smollm3"}) {
    const Weights source = open_weights(golden_gguf(name));
    const GgufContents contents = contents_for(source.config(), DType::q4_1);
    const auto tensors = random_tensors(source.config(), contents);
    write_all(source, contents, tensors, {.output = at("out"), .overwrite = true});
    const Weights output = open_weights(at("out"));
    expect_same_model(output, source, tensors);
    for (const auto& [key, value] : source.checkpoint().gguf()->metadata()) {
      if (key == "general.file_type" || key == "general.quantization_version" || key == "general.alignment") continue;
      ASSERT_NE(output.checkpoint().gguf()->find(key), nullptr) << key;
      EXPECT_EQ(*output.checkpoint().gguf()->find(key), value) << key;
    }
    EXPECT_EQ(output.checkpoint().gguf()->integer("general.file_type"), 3);
  }
}

TEST_F(GgufOutputTest, ASplitModelIsTheSameModel) {
  const Weights source = open_weights(with_tokenizer("llama2"));
  const GgufContents contents = contents_for(source.config(), DType::q4_0);
  const auto tensors = random_tensors(source.config(), contents);
  write_all(source, contents, tensors, {.output = at("out"), .max_shard_bytes = 20000});
  const Weights output = open_weights(at("out"));
  EXPECT_GT(output.checkpoint().gguf()->integer("split.count"), 1);
  EXPECT_FALSE(fs::exists(at("out") + "/out.gguf"));
  expect_same_model(output, source, tensors);
  // Split or not is of the file: a copy of it is one file again.
  write_all(output, {.mix = GgufMix::q4_0, .modules = {}, .rounded = {}, .round = {}}, {}, {.output = at("again")});
  const Weights again = open_weights(at("again"));
  expect_same_model(again, source, tensors);
  EXPECT_EQ(again.checkpoint().gguf()->find("split.count"), nullptr);
}

TEST_F(GgufOutputTest, RoundedMatricesComeThroughTheCaller) {
  const Weights source = open_weights(with_tokenizer("llama2"));  // vocabulary 259, hidden 64
  GgufContents contents = contents_for(source.config(), DType::q8_0);
  contents.rounded = {{"model.embed_tokens", {DType::q8_0}}, {"lm_head", {DType::q8_0}}};
  contents.round = [](MatrixView<const float> rows, const GgufLayout& layout) {
    return random_gguf(layout, static_cast<std::int64_t>(rows.rows), static_cast<std::int64_t>(rows.cols), 9);
  };
  write_all(source, contents, random_tensors(source.config(), contents), {.output = at("out")});
  Matrix<float> expected(259, 64);
  dequantize(random_gguf({DType::q8_0}, 259, 64, 9), 0, 259, expected);
  const Weights output = open_weights(at("out"));
  EXPECT_TRUE(equal(output.head(), expected));
  EXPECT_EQ(output.checkpoint().info("token_embd.weight").type, DType::q8_0);
}

TEST_F(GgufOutputTest, TheTokenizerGivesTheSameIds) {
  const Weights source = open_weights(with_tokenizer("llama2"));
  const GgufContents contents = contents_for(source.config(), DType::q4_0);
  write_all(source, contents, random_tensors(source.config(), contents), {.output = at("out")});
  const Tokenizer before = Tokenizer::open(source.checkpoint()), after = Tokenizer::open(Checkpoint::open(at("out")));
  EXPECT_TRUE(after.adds_bos());
  for (const char* text : {"Hello, world 123", "\xC3\xA9\n\n  x"}) EXPECT_EQ(before.encode(text), after.encode(text));
}

TEST_F(GgufOutputTest, BadRequestsLeaveNothingBehind) {
  const Weights source = open_weights(with_tokenizer("smollm2"));  // 72 inputs
  const std::size_t before = entries();
  GgufContents shape{.mix = GgufMix::q4_0, .modules = {{"model.layers.0.mlp.up_proj", {DType::q4_0}}}, .rounded = {}, .round = {}};
  const Error held = error_of([&] { make_gguf_output(source, shape, {.output = at("out")}); });
  EXPECT_EQ(held.context().tensor, "model.layers.0.mlp.up_proj");
  EXPECT_EQ(held.context().found, "[84, 72]");
  GgufContents name{.mix = GgufMix::q4_0, .modules = {{"model.layers.9.mlp.up_proj", {DType::q4_0}}}, .rounded = {}, .round = {}};
  EXPECT_EQ(error_of([&] { make_gguf_output(source, name, {.output = at("out")}); }).code(), ErrorCode::argument);
  const GgufContents none{.mix = GgufMix::q4_0, .modules = {}, .rounded = {}, .round = {}};
  EXPECT_EQ(error_of([&] { make_gguf_output(source, none, {.output = at("smollm2")}); }).code(), ErrorCode::argument);
  { const auto unfinished = make_gguf_output(source, none, {.output = at("out")}); }
  EXPECT_EQ(entries(), before);
}

TEST_F(GgufOutputTest, ASingleFileComesWithItsCompanionsOrNotAtAll) {
  const Weights source = open_weights(with_tokenizer("llama2"));
  const GgufContents none{.mix = GgufMix::q4_0, .modules = {}, .rounded = {}, .round = {}};
  const auto write = [&](bool overwrite) {
    const auto writer = make_gguf_output(source, none, {.output = at("one.gguf"), .overwrite = overwrite});
    writer->write_file("README.md", "card");
    writer->write_file("quantization_report.json", "{}");
    writer->write_file("neap_recipe.json", "{}");
    writer->finish();
  };
  const std::size_t before = entries();
  write(false);
  EXPECT_EQ(entries(), before + 3);
  for (const char* name : {"one.gguf", "one.gguf.md", "one.gguf.report.json"}) EXPECT_TRUE(fs::is_regular_file(at(name))) << name;
  EXPECT_EQ(open_weights(at("one.gguf")).config().hidden, 64);
  EXPECT_EQ(error_of([&] { write(false); }).code(), ErrorCode::argument);
  write(true);
  fs::remove(at("one.gguf"));  // its card may be somebody's work
  EXPECT_EQ(error_of([&] { write(false); }).context().file, at("one.gguf.report.json"));
  fs::remove(at("one.gguf.md"));
  fs::remove(at("one.gguf.report.json"));
  std::ofstream(at("one.gguf")) << "no model";
  EXPECT_EQ(error_of([&] { write(true); }).code(), ErrorCode::argument);
  EXPECT_EQ(entries(), before + 1);
}

TEST_F(GgufOutputTest, ItsNameIsTheSourcesAndNotTheFiles) {
  const Weights source = open_weights(with_tokenizer("llama2"));
  const GgufContents none{.mix = GgufMix::q4_0, .modules = {}, .rounded = {}, .round = {}};
  make_gguf_output(source, none, {.output = at("out")})->finish();
  EXPECT_EQ(open_weights(at("out")).checkpoint().gguf()->string("general.name"), "llama2");
}

TEST_F(GgufOutputTest, ATensorThatLlamaCppHasNoNameForIsRefusedByName) {
  test::EditableModel model("qwen3");
  model.config["attention_bias"] = true;
  for (const auto& [name, tensor] : std::map(model.tensors)) {
    if (!name.ends_with("_proj.weight") || name.find("self_attn") == std::string::npos) continue;
    model.tensors[name.substr(0, name.size() - 6) + "bias"] = {DType::f32, {tensor.shape[0]}, std::vector<std::byte>(static_cast<std::size_t>(4 * tensor.shape[0]))};
  }
  const Checkpoint checkpoint = model.open();
  const Weights source(checkpoint, read_config(checkpoint));
  const GgufContents none{.mix = GgufMix::q4_0, .modules = {}, .rounded = {}, .round = {}};
  const Error error = error_of([&] { make_gguf_output(source, none, {.output = at("out")}); });
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
  EXPECT_NE(std::string(error.what()).find("'blk.0.attn_output.bias': llama.cpp's qwen3 has no such tensor"), std::string::npos) << error.what();
  EXPECT_EQ(entries(), 0u);
}

TEST_F(GgufOutputTest, Smollm3sRopeMustSkipEveryFourthLayer) {
  const Weights source = open_weights(golden_model("smollm3"));  // skips the third
  const GgufContents none{.mix = GgufMix::q4_0, .modules = {}, .rounded = {}, .round = {}};
  EXPECT_EQ(error_of([&] { make_gguf_output(source, none, {.output = at("out")}); }).code(), ErrorCode::unsupported);
}

}  // namespace
}  // namespace neap
