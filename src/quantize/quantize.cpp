#include "neap/quantize.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/parallel.h"
#include "export/engines.h"
#include "export/export_record.h"
#include "export/gguf_model_writer.h"
#include "export/model_writer.h"
#include "neap/error.h"
#include "quantize/awq.h"
#include "quantize/gguf.h"
#include "quantize/walk.h"

namespace neap {
namespace {

constexpr std::int64_t kSelfWrittenWindows = 24;

std::uint64_t memory_limit(const QuantizeOptions& options) {
  if (options.max_memory > 0) return options.max_memory;
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::uint64_t>(::sysconf(_SC_PAGE_SIZE)) / 2;
}

std::uint64_t peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) * 1024;
  }
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

TokenWindows calibration_windows(const Checkpoint& checkpoint, const QuantizeOptions& options) {
  const Recipe& recipe = options.recipe;
  const Tokenizer tokenizer = Tokenizer::open(checkpoint);
  if (!options.calibration_files.empty()) {
    return read_windows(options.calibration_files, tokenizer, recipe.samples, recipe.length);
  }
  const auto model = load_model(checkpoint, {recipe.precision, memory_limit(options)});
  const std::int64_t samples = recipe.samples > 0 ? recipe.samples : kSelfWrittenWindows;
  return write_windows(*model, tokenizer, SelfTextPart::calibration, samples, recipe.length, recipe.seed,
                       options.progress);
}

// Statistics of fewer tokens than a layer has inputs are mostly ridge, and the result is worse than plain rounding.
void require_enough(const TokenWindows& windows, const ModelConfig& config) {
  if (windows.tokens() >= config.hidden) return;
  throw Error(ErrorCode::data, "too little calibration text",
              {.file = windows.sources.empty() ? "" : windows.sources.front().name,
               .expected = std::to_string(config.hidden) + " tokens at the very least, better " +
                           std::to_string(20 * config.intermediate),
               .found = std::to_string(windows.tokens())});
}

// What the report says of the grids in use, weighted by the layers' sizes.
double mean_bits(const std::vector<LayerRecord>& layers) {
  double bits = 0, weights = 0;
  for (const LayerRecord& layer : layers) {
    const double count = static_cast<double>(layer.rows * layer.cols);
    bits += bits_per_weight(layer.layout, layer.rows, layer.cols) * count;
    weights += count;
  }
  return weights > 0 ? bits / weights : 0;
}

std::map<std::string, GroupLayout> integer_layouts(const Plan& plan) {
  std::map<std::string, GroupLayout> layouts;
  for (const auto& [module, layout] : plan.layers) layouts[module] = std::get<GroupLayout>(layout);
  return layouts;
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

// How the output's inputs are meant to be rounded, if block-scaled: without the scale of calibration.
std::optional<BlockScaledInputs> block_scaled_inputs(const Recipe& recipe) {
  const auto format = block_scaled_of(recipe.scheme);
  if (!format || recipe.block_scaled.weights_only) return {};
  return BlockScaledInputs{*format, *format == BlockScaled::int4 ? recipe.block_scaled.group : usual_group(*format)};
}

// LO-BCQ: rounding asks for no calibration text; where none is given, there are no scales from it
// either. NVFP4's files have no place for scales per token, the other block-scaled formats none for
// scales of calibration.
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

// The formats that hold a scheme; the first is the one to take where none is asked for.
std::vector<FileFormat> fitting_formats(Scheme scheme) {
  switch (scheme) {
    case Scheme::lobcq: return {FileFormat::neap};
    case Scheme::gguf: return {FileFormat::gguf};
    case Scheme::integer: return {FileFormat::compressed_tensors, FileFormat::gptq, FileFormat::gptq_v2};
    default: return {FileFormat::compressed_tensors};
  }
}

FileFormat format_of(const QuantizeOptions& options) {
  const std::vector<FileFormat> fitting = fitting_formats(options.recipe.scheme);
  if (!options.format) return fitting.front();
  if (std::find(fitting.begin(), fitting.end(), *options.format) != fitting.end()) return *options.format;
  std::string names;
  for (const FileFormat format : fitting) names += (names.empty() ? "" : ", ") + name_of(format);
  throw Error(ErrorCode::argument, "this format does not hold the scheme " + name_of(options.recipe.scheme),
              {.expected = names, .found = name_of(*options.format)});
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

GgufContents gguf_contents(const Recipe& recipe, const Plan& plan) {
  GgufContents contents{.mix = recipe.gguf.mix, .modules = {}, .rounded = plan.rounded, .round = round_to_gguf};
  for (const auto& [module, layout] : plan.layers) contents.modules[module] = std::get<GgufLayout>(layout);
  return contents;
}

std::unique_ptr<ModelOutput> make_output(const QuantizeOptions& options, const Weights& weights, const Plan& plan,
                                         const CodebookSet& codebooks) {
  const FileFormat file = format_of(options);
  ExportOptions how{.output = options.output, .overwrite = options.overwrite, .progress = options.progress};
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
  if (options.recipe.scheme == Scheme::gguf) {
    return {{"llama.cpp and what is built on it", true, ""},
            {"Neap", true, ""},
            {"vLLM, SGLang", false, "slow paths at best: choose an integer grid for these"}};
  }
  const auto block_scaled = block_scaled_of(options.recipe.scheme);
  const bool inputs = block_scaled_inputs(options.recipe).has_value();
  // INT4 weights alone are integers like any others.
  const bool integer = !block_scaled || (block_scaled == BlockScaled::int4 && !inputs);
  std::vector<QuantizeReport::Engine> engines;
  if (const auto gptq = gptq_version(format_of(options))) {
    for (const auto& e : engines_for_gptq(integer_layouts(plan), *gptq)) engines.push_back({e.name, e.loads, e.reason});
    return engines;
  }
  for (const auto& e : integer ? engines_for(config, integer_layouts(plan)) : engines_for(*block_scaled, inputs))
    engines.push_back({e.name, e.loads, e.reason});
  return engines;
}

// The second moments of a layer's inputs are in memory as a whole, whatever the limit.
void note_memory(const QuantizeOptions& options, QuantizeReport& report) {
  report.peak_memory = peak_memory();
  if (options.max_memory == 0 || report.peak_memory <= options.max_memory) return;
  const auto mebibytes = [](std::uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; };
  report.notes.push_back("peak memory is " + mebibytes(report.peak_memory) + ", more than the " +
                         mebibytes(options.max_memory) +
                         " to plan for: the second moments of the widest layer's inputs take what they take");
}

std::vector<LayerRecord> decide_layers(const Weights& weights, const Plan& plan, const TokenWindows& windows,
                                       const WalkOptions& options, const LayerSink& sink, PhaseClock& clock) {
  switch (options.recipe.method) {
    case Method::rtn:
      return options.input_scales || balances(options.recipe) ? walk(weights, plan, windows, options, sink, clock)
                                  : round_all(weights, plan, options, sink, clock);
    case Method::awq: return walk_awq(weights, plan, windows, options, sink, clock);
    default: return walk(weights, plan, windows, options, sink, clock);
  }
}

bool moves_factors(const Recipe& recipe) { return recipe.method == Method::awq || balances(recipe); }

// The report's JSON, and what `neap verify` will want to know.
std::string with_record(const QuantizeReport& report, const ExportRecord& record) {
  auto json = nlohmann::ordered_json::parse(report.to_json());
  json["written"] = record.to_json();
  return json.dump(1) + "\n";
}

}  // namespace

QuantizeReport quantize(const Checkpoint& checkpoint, const QuantizeOptions& options) {
  const ThreadScope threads(options.threads);
  const double start = seconds_now();
  PhaseClock clock;
  const ModelConfig config = read_config(checkpoint);
  const FileFormat file = format_of(options);
  Plan plan = make_plan(options.recipe, config);
  if (gptq_version(file)) store_scales_as_halves(plan);
  const Weights weights(checkpoint, config);

  QuantizeReport report;
  report.output = options.output;
  report.layout = plan.layout;
  report.layout_reason = plan.layout_reason;
  report.activations = words_for_activations(options);
  const bool lobcq = options.recipe.scheme == Scheme::lobcq;
  const CodebookSet codebooks = lobcq ? codebooks_of(options.recipe.lobcq) : CodebookSet{};
  const std::unique_ptr<ModelOutput> writer = make_output(options, weights, plan, codebooks);
  TokenWindows windows;
  const bool scales = input_scales(options) == InputScales::fixed;
  if (options.recipe.method != Method::rtn || scales || balances(options.recipe)) {
    windows = timed(clock, "calibration text", 0, [&] { return calibration_windows(checkpoint, options); });
    require_enough(windows, config);
    report.calibration = windows.sources;
    report.calibration_windows = static_cast<std::int64_t>(windows.windows.size());
    report.calibration_tokens = windows.tokens();
  }
  const auto parent = std::filesystem::absolute(options.output).lexically_normal().parent_path();
  const WalkOptions walk_options{.recipe = options.recipe,
                                 .codebooks = lobcq ? &codebooks : nullptr,
                                 .input_scales = scales,
                                 .activation_memory = memory_limit(options) / 4,
                                 .scratch = parent.string(),
                                 .progress = options.progress};
  const LayerSink sink{
      .quantized = [&](const std::string& module, const DecidedLayer& layer) { writer->write(module, layer); },
      .dense = [&](const std::string& name, MatrixView<const float> v) { writer->write_dense(name, v); }};
  report.layers = decide_layers(weights, plan, windows, walk_options, sink, clock);

  report.bits_per_weight = mean_bits(report.layers);
  report.file_bits_per_weight = writer->bits_per_weight();
  report.file_bytes = writer->tensor_bytes();
  report.engines = engines_of(options, config, plan);
  report.notes = plan.fallbacks;
  report.notes.insert(report.notes.end(), writer->notes().begin(), writer->notes().end());
  timed(clock, "writing", 0, [&] { writer->close(); });
  const Checkpoint closed = Checkpoint::open(writer->closed_path());
  const ExportRecord record{writer->tensor_digests(), header_digest(closed), moves_factors(options.recipe)};
  if (options.verify) {
    const VerifyOptions how{.progress = options.progress};
    report.verification = timed(clock, "verifying", 0, [&] { return verify_written(closed, &checkpoint, how, record); });
  }
  report.phases = clock.phases();
  report.seconds = seconds_now() - start;
  note_memory(options, report);
  writer->write_file("quantization_report.json", with_record(report, record));
  writer->write_file("neap_recipe.json", options.recipe.to_json());
  writer->commit();
  return report;
}

}  // namespace neap
