#include "quantize/output_choice.h"

#include <algorithm>
#include <map>

#include "export/engines.h"
#include "export/gguf_model_writer.h"
#include "export/model_writer.h"
#include "neap/error.h"
#include "quantize/gguf.h"

namespace neap {
namespace {

// How the output's inputs are meant to be rounded, if block-scaled: without the scale of calibration.
std::optional<BlockScaledInputs> block_scaled_inputs(const Recipe& recipe) {
  const auto format = block_scaled_of(recipe.scheme);
  if (!format || recipe.block_scaled.weights_only) return {};
  return BlockScaledInputs{*format, *format == BlockScaled::int4 ? recipe.block_scaled.group : usual_group(*format)};
}

// The formats that hold a scheme; the first is the one to take where none is asked for.
std::vector<FileFormat> fitting_formats(Scheme scheme) {
  switch (scheme) {
    case Scheme::lobcq: return {FileFormat::neap};
    case Scheme::gguf: return {FileFormat::gguf};
    case Scheme::integer: return {FileFormat::compressed_tensors, FileFormat::gptq, FileFormat::gptq_v2};
    default: return {FileFormat::compressed_tensors};
  }
}

std::optional<GptqVersion> gptq_version(FileFormat format) {
  if (format == FileFormat::gptq) return GptqVersion::v1;
  if (format == FileFormat::gptq_v2) return GptqVersion::v2;
  return {};
}

// GPTQ's form has scales of F16 alone, which hold the same numbers.
void store_scales_as_halves(Plan& plan) {
  std::get<GroupLayout>(plan.layout).scale_type = DType::f16;
  for (auto& layer : plan.layers) std::get<GroupLayout>(layer.second).scale_type = DType::f16;
}

std::map<std::string, GroupLayout> integer_layouts(const Plan& plan) {
  std::map<std::string, GroupLayout> layouts;
  for (const auto& [module, layout] : plan.layers) layouts[module] = std::get<GroupLayout>(layout);
  return layouts;
}

GgufContents gguf_contents(const Recipe& recipe, const Plan& plan) {
  GgufContents contents{.mix = recipe.gguf.mix, .modules = {}, .rounded = plan.rounded, .round = {}};
  contents.round = [](MatrixView<const float> rows, const GgufLayout& layout) { return round_to_gguf(rows, layout); };
  for (const auto& [module, layout] : plan.layers) contents.modules[module] = std::get<GgufLayout>(layout);
  return contents;
}

}  // namespace

FileFormat format_of(const QuantizeOptions& options) {
  const std::vector<FileFormat> fitting = fitting_formats(options.recipe.scheme);
  if (!options.format) return fitting.front();
  if (std::find(fitting.begin(), fitting.end(), *options.format) != fitting.end()) return *options.format;
  std::string names;
  for (const FileFormat format : fitting) names += (names.empty() ? "" : ", ") + name_of(format);
  throw Error(ErrorCode::argument, "this format does not hold the scheme " + name_of(options.recipe.scheme),
              {.expected = *options.format == FileFormat::gguf ? names + "; a GGUF's grid is a scheme of its own, such as GGUF:Q4_K_M" : names,
               .found = name_of(*options.format)});
}

Plan plan_for_output(const QuantizeOptions& options, const ModelConfig& config) {
  const bool halves = gptq_version(format_of(options)).has_value();
  Plan plan = make_plan(options.recipe, config);
  if (halves) store_scales_as_halves(plan);
  return plan;
}

InputScales input_scales(const QuantizeOptions& options) {
  if (options.recipe.scheme == Scheme::lobcq) {
    if (options.recipe.lobcq.weights_only) return InputScales::none;
    const bool calibrated = options.recipe.method != Method::rtn || !options.calibration_files.empty();
    return calibrated ? InputScales::fixed : InputScales::dynamic;
  }
  const auto inputs = block_scaled_inputs(options.recipe);
  if (!inputs) return InputScales::none;
  return inputs->format == BlockScaled::nvfp4 ? InputScales::fixed : InputScales::dynamic;
}

std::string words_for_activations(const QuantizeOptions& options) {
  const InputScales scales = input_scales(options);
  if (scales == InputScales::none) return "16 bits";
  const bool fixed = scales == InputScales::fixed;
  const auto inputs = block_scaled_inputs(options.recipe);
  if (!inputs) return fixed ? "LO-BCQ, a scale per layer from calibration" : "LO-BCQ, a scale per token";
  return name_of(inputs->format) + " in groups of " + std::to_string(inputs->group) +
         (fixed ? ", a global scale per layer from calibration" : "");
}

CodebookSet codebooks_of(const LobcqRecipe& recipe) {
  if (recipe.codebooks.empty()) return universal_codebooks(recipe.layout);
  CodebookSet set = read_codebooks(recipe.codebooks);
  if (set.layout == recipe.layout) return set;
  const auto words = [](const LobcqLayout& l) {
    return std::to_string(l.codebooks) + " codebooks, blocks of " + std::to_string(l.block) + ", arrays of " +
           std::to_string(l.block_array);
  };
  throw Error(ErrorCode::argument, "codebooks for another layout",
              {.file = recipe.codebooks, .expected = words(recipe.layout), .found = words(set.layout)});
}

std::unique_ptr<ModelOutput> make_output(const QuantizeOptions& options, const Weights& weights, const Plan& plan,
                                         const CodebookSet& codebooks) {
  const FileFormat file = format_of(options);
  ExportOptions how{.output = options.output, .overwrite = options.overwrite, .max_shard_bytes = options.max_shard_bytes, .progress = options.progress};
  if (file == FileFormat::gguf) return make_gguf_output(weights, gguf_contents(options.recipe, plan), std::move(how));
  const auto gptq = gptq_version(file);
  auto format = gptq                        ? make_gptq_format(*gptq)
                : file == FileFormat::neap ? make_neap_format(codebooks, input_scales(options))
                                           : make_compressed_tensors_format(block_scaled_inputs(options.recipe));
  return std::make_unique<ModelWriter>(weights, plan.layers, std::move(format), std::move(how));
}

std::vector<QuantizeReport::Engine> engines_of(const QuantizeOptions& options, const ModelConfig& config,
                                               const Plan& plan) {
  if (options.recipe.scheme == Scheme::lobcq) {
    return {{"Neap", true, ""},
            {"transformers, vLLM, SGLang, llama.cpp", false, "quant_method 'neap': nobody else runs LO-BCQ"}};
  }
  if (options.recipe.scheme == Scheme::gguf) return engines_for_gguf(std::get<GgufLayout>(plan.layout).type);
  const auto block_scaled = block_scaled_of(options.recipe.scheme);
  const bool inputs = block_scaled_inputs(options.recipe).has_value();
  // INT4 weights alone are integers like any others.
  const bool integer = !block_scaled || (block_scaled == BlockScaled::int4 && !inputs);
  if (const auto gptq = gptq_version(format_of(options))) return engines_for_gptq(integer_layouts(plan), *gptq);
  return integer ? engines_for(config, integer_layouts(plan)) : engines_for(*block_scaled, inputs);
}

}  // namespace neap
