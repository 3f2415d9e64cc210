// Writes a model whose linear layers hold random codes, for judges in other languages:
//
//   export_random SOURCE OUT BITS GROUP sym|asym F16|BF16|F32 [mixed] [head]
//
// and in OUT.expected/model.safetensors what a reader should make of it: for each quantized module
// its weights as floats, and "logits" (tokens, vocabulary), which Neap computes in fp32 for
// "tokens". mixed: 8-bit down projections, one 4-bit q/k/v, one dense layer. head: the head is
// quantized as well.
#include <cstdio>
#include <cstring>
#include <string>

#include "codec/random_tensor.h"
#include "export/dense_tensors.h"
#include "export/engines.h"
#include "export/model_writer.h"
#include "io/safetensors_writer.h"
#include "neap/error.h"

namespace neap {
namespace {

using Layouts = std::map<std::string, GroupLayout>;

Layouts layouts_for(const ModelConfig& config, const GroupLayout& layout, bool mixed, bool head) {
  Layouts layouts;
  for (const std::string& module : linear_modules(config)) {
    if (module == "lm_head" && !head) continue;
    layouts[module] = layout;
    if (mixed && module.ends_with("down_proj")) layouts[module].bits = 8;
    const bool qkv =
        module.ends_with("q_proj") || module.ends_with("k_proj") || module.ends_with("v_proj");
    if (mixed && qkv && module.starts_with("model.layers.1.")) layouts[module].bits = 4;
  }
  if (mixed) layouts.erase("model.layers.0.self_attn.o_proj");
  return layouts;
}

// Tokens that visit the whole vocabulary.
std::vector<TokenId> some_tokens(std::int64_t vocabulary) {
  std::vector<TokenId> tokens;
  for (std::int64_t i = 0; i < 64; ++i)
    tokens.push_back(static_cast<TokenId>((i * 7919 + 11) % vocabulary));
  return tokens;
}

Matrix<float> logits_of(const std::string& model, std::span<const TokenId> tokens) {
  const auto loaded = load_model(Checkpoint::open(model), {.precision = Precision::f32});
  Matrix<float> states(tokens.size(), static_cast<std::size_t>(loaded->config().hidden));
  Matrix<float> logits(tokens.size(), static_cast<std::size_t>(loaded->config().vocabulary));
  loaded->forward(tokens, tokens.size(), states);
  loaded->head(states, logits);
  return logits;
}

void write_expected(const std::string& folder, const std::map<std::string, Matrix<float>>& matrices,
                    std::span<const TokenId> tokens) {
  std::vector<TensorSpec> specs = {
      {"tokens", DType::i32, {static_cast<std::int64_t>(tokens.size())}}};
  for (const auto& [name, matrix] : matrices) {
    specs.push_back(
        {name,
         DType::f32,
         {static_cast<std::int64_t>(matrix.rows()), static_cast<std::int64_t>(matrix.cols())}});
  }
  OutputDirectory output(folder, true);
  output.write("config.json", "{}");  // a folder that may be replaced by the next run
  SafetensorsWriter writer(output.folder(), specs, std::uint64_t{1} << 40, {{"format", "pt"}});
  writer.write("tokens", std::as_bytes(tokens));
  for (const auto& [name, matrix] : matrices) {
    writer.write(name, std::as_bytes(std::span(matrix.data(), matrix.rows() * matrix.cols())));
  }
  writer.finish();
  output.commit();
}

int run(const std::vector<std::string>& arguments) {
  const std::string source = arguments.at(0), output = arguments.at(1);
  const DType type = arguments.at(5) == "F16"    ? DType::f16
                     : arguments.at(5) == "BF16" ? DType::bf16
                                                 : DType::f32;
  const GroupLayout layout{std::stoi(arguments.at(2)), std::stoll(arguments.at(3)),
                           arguments.at(4) == "sym", type};
  bool mixed = false, head = false;
  for (std::size_t i = 6; i < arguments.size(); ++i) {
    mixed |= arguments[i] == "mixed";
    head |= arguments[i] == "head";
  }
  const Checkpoint checkpoint = Checkpoint::open(source);
  const Weights weights(checkpoint, read_config(checkpoint));
  const Layouts layouts = layouts_for(weights.config(), layout, mixed, head);
  ModelWriter writer(weights, {layouts.begin(), layouts.end()}, make_compressed_tensors_format(),
                     {.output = output, .overwrite = true});
  std::map<std::string, Matrix<float>> expected;
  std::uint32_t seed = 1;
  for (const auto& [module, its] : layouts) {
    const Shape shape = linear_shape(weights.config(), module);
    const QuantizedTensor tensor = random_tensor(its, shape[0], shape[1], seed++);
    writer.write(module, {tensor, {}});
    Matrix<float>& weight = expected[module];
    weight = Matrix<float>(static_cast<std::size_t>(shape[0]), static_cast<std::size_t>(shape[1]));
    dequantize(tensor, 0, tensor.rows, weight);
  }
  writer.finish();
  const std::vector<TokenId> tokens = some_tokens(weights.config().vocabulary);
  expected["logits"] = logits_of(output, tokens);
  write_expected(output + ".expected", expected, tokens);
  for (const std::string& note : writer.notes()) std::printf("%s\n", note.c_str());
  for (const EngineVerdict& verdict : engines_for(weights.config(), layouts)) {
    std::printf("%-14s %-4s %s\n", verdict.name.c_str(), verdict.loads ? "yes" : "no",
                verdict.reason.c_str());
  }
  return 0;
}

}  // namespace
}  // namespace neap

int main(int argc, char** argv) {
  try {
    return neap::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
