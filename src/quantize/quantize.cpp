#include "neap/quantize.h"

#include <sys/resource.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/parallel.h"
#include "export/engines.h"
#include "export/export_record.h"
#include "export/gguf_model_writer.h"
#include "export/model_writer.h"
#include "export/source_identity.h"
#include "export/verify.h"
#include "neap/error.h"
#include "neap/version.h"
#include "quantize/awq.h"
#include "quantize/calibration_text.h"
#include "quantize/card.h"
#include "quantize/gguf.h"
#include "quantize/importance.h"
#include "quantize/walk.h"

namespace neap {
namespace {

constexpr std::int64_t kSelfWrittenWindows = 24;

std::uint64_t peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) * 1024;
  }
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

TokenWindows windows_for(const Checkpoint& checkpoint, const QuantizeOptions& options) {
  const Recipe& recipe = options.recipe;
  return calibration_windows(checkpoint, {.files = options.calibration_files,
                                          .samples = recipe.samples,
                                          .self_written = kSelfWrittenWindows,
                                          .length = recipe.length,
                                          .seed = recipe.seed,
                                          .precision = recipe.precision,
                                          .memory = memory_limit(options.max_memory),
                                          .progress = options.progress});
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

// Nothing without an importance matrix.
std::optional<Importances> importances_for(const QuantizeOptions& options, const Plan& plan, const ModelConfig& config) {
  if (options.recipe.imatrix == options.imatrix.empty()) {
    throw Error(ErrorCode::argument, options.recipe.imatrix ? "the recipe asks for an importance matrix, and none is given"
                                                            : "an importance matrix is given, and the recipe does not ask for it");
  }
  if (!options.recipe.imatrix) return {};
  if (!options.calibration_files.empty()) {
    throw Error(ErrorCode::argument, "an importance matrix stands for calibration text: one of them",
                {.file = options.imatrix, .found = options.calibration_files.front()});
  }
  return read_importances(options.imatrix, plan, config, options.recipe.ridge);
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
  GgufContents contents{.mix = recipe.gguf.mix, .modules = {}, .rounded = plan.rounded, .round = {}};
  contents.round = [](MatrixView<const float> rows, const GgufLayout& layout) { return round_to_gguf(rows, layout); };
  for (const auto& [module, layout] : plan.layers) contents.modules[module] = std::get<GgufLayout>(layout);
  return contents;
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

// The second moments of a layer's inputs are in memory as a whole, whatever the limit.
void note_memory(const QuantizeOptions& options, QuantizeReport& report) {
  report.peak_memory = peak_memory();
  if (options.max_memory == 0 || report.peak_memory <= options.max_memory) return;
  const auto mebibytes = [](std::uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; };
  report.notes.push_back("peak memory is " + mebibytes(report.peak_memory) + ", more than the " +
                         mebibytes(options.max_memory) +
                         " to plan for: the second moments of the widest layer's inputs take what they take");
}

bool moves_factors(const Recipe& recipe) { return recipe.method == Method::awq || balances(recipe); }

// The report's JSON, and what `neap verify` will want to know.
std::string with_record(const QuantizeReport& report, const ExportRecord& record) {
  auto json = nlohmann::ordered_json::parse(report.to_json());
  json["written"] = record.to_json();
  return json.dump(1) + "\n";
}

// What all outputs of a run have in common.
struct Run {
  const Checkpoint& checkpoint;
  Weights weights;
  SourceIdentity source;
  std::vector<TokenWindows::Source> source_files = {};
  TokenWindows windows = {};
  PhaseClock clock = {};
  double start = seconds_now();
};

// One output in the making.
class Job {
 public:
  // Refuses whatever can be refused before any work.
  Job(const Run& run, QuantizeOptions options) : run_(run), options_(std::move(options)), plan_(plan_of(options_, run.weights.config())) {
    const bool lobcq = options_.recipe.scheme == Scheme::lobcq;
    if (lobcq) codebooks_ = codebooks_of(options_.recipe.lobcq);
    importances_ = importances_for(options_, plan_, run.weights.config());
    writer_ = make_output(options_, run.weights, plan_, codebooks_);
    report_.output = options_.output;
    report_.command = options_.command;
    report_.neap_version = version();
    report_.recipe = options_.recipe;
    report_.layout = plan_.layout;
    report_.layout_reason = plan_.layout_reason;
    report_.activations = words_for_activations(options_);
  }

  const QuantizeOptions& options() const { return options_; }
  const Plan& plan() const { return plan_; }
  bool reads_text() const {
    return options_.recipe.method != Method::rtn || input_scales(options_) == InputScales::fixed || balances(options_.recipe);
  }
  // Whether the walk decides its layers, whose streams others may share.
  bool walks() const { return reads_text() && options_.recipe.method != Method::awq; }

  WalkOptions walk_options() const {
    const auto parent = std::filesystem::absolute(options_.output).lexically_normal().parent_path();
    return {.recipe = options_.recipe,
            .codebooks = options_.recipe.scheme == Scheme::lobcq ? &codebooks_ : nullptr,
            .input_scales = input_scales(options_) == InputScales::fixed,
            .importances = importances_ ? &*importances_ : nullptr,
            .activation_memory = memory_limit(options_.max_memory) / 4,
            .scratch = parent.string(),
            .progress = options_.progress};
  }

  // The same grid, though another format may want its scales in another type.
  bool shares_grid_with(const Job& other) const { return options_.recipe.to_json() == other.options_.recipe.to_json(); }

  void write(const std::string& module, DecidedLayer layer) {
    if (auto* tensor = std::get_if<QuantizedTensor>(&layer.weight)) tensor->layout = std::get<GroupLayout>(*plan_.find(module));
    writer_->write(module, layer);
  }
  void write_dense(const std::string& tensor, MatrixView<const float> values) { writer_->write_dense(tensor, values); }

  // Closes, verifies, describes and names the output. records: of its layers. clock: the time of its grid.
  QuantizeReport finish(std::vector<LayerRecord> records, PhaseClock clock, const std::vector<std::string>& together) {
    for (LayerRecord& record : records) record.layout = *plan_.find(record.module);
    report_.layers = std::move(records);
    describe(together);
    timed(clock, "writing", 0, [&] { writer_->close(); });
    const Checkpoint closed = Checkpoint::open(writer_->closed_path());
    const ExportRecord record{writer_->tensor_digests(), header_digest(closed), moves_factors(options_.recipe)};
    if (options_.verify) {
      const VerifyOptions how{.progress = options_.progress};
      report_.verification = timed(clock, "verifying", 0, [&] { return verify_written(closed, &run_.checkpoint, how, record); });
    }
    report_.phases = run_.clock.phases();
    report_.phases.insert(report_.phases.end(), clock.phases().begin(), clock.phases().end());
    report_.seconds = seconds_now() - run_.start;
    note_memory(options_, report_);
    writer_->write_file("quantization_report.json", with_record(report_, record));
    writer_->write_file("neap_recipe.json", options_.recipe.to_json());
    writer_->write_file("README.md", card_of(report_, options_, format_of(options_), run_.source, writer_->closed_path()));
    writer_->commit();
    return std::move(report_);
  }

 private:
  void describe(const std::vector<std::string>& together) {
    report_.source = run_.source.name;
    report_.source_files = run_.source_files;
    if (reads_text()) {
      report_.calibration = run_.windows.sources;
      report_.calibration_windows = static_cast<std::int64_t>(run_.windows.windows.size());
      report_.calibration_tokens = run_.windows.tokens();
    } else if (importances_) {
      report_.calibration = {importances_->source};
      report_.calibration_windows = importances_->windows;
      report_.calibration_tokens = importances_->source.tokens;
    }
    report_.bits_per_weight = mean_bits(report_.layers);
    report_.file_bits_per_weight = writer_->bits_per_weight();
    report_.file_bytes = writer_->tensor_bytes();
    report_.engines = engines_of(options_, run_.weights.config(), plan_);
    report_.notes = plan_.fallbacks;
    report_.notes.insert(report_.notes.end(), writer_->notes().begin(), writer_->notes().end());
    std::string others;
    for (const std::string& output : together) {
      if (output != options_.output) others += (others.empty() ? "" : ", ") + output;
    }
    if (!others.empty()) report_.notes.push_back("decided together with " + others + ": what was done for all of them is in the times of " + together.front());
  }

  static Plan plan_of(const QuantizeOptions& options, const ModelConfig& config) {
    const bool halves = gptq_version(format_of(options)).has_value();
    Plan plan = make_plan(options.recipe, config);
    if (halves) store_scales_as_halves(plan);
    return plan;
  }

  const Run& run_;
  QuantizeOptions options_;
  Plan plan_;
  CodebookSet codebooks_;
  std::optional<Importances> importances_;
  std::unique_ptr<ModelOutput> writer_;
  QuantizeReport report_;
};

// A job, and what came of it.
struct Ordered {
  Job job;
  QuantizeOutcome outcome;
};

// Runs `work`; an Error of its that is no cancellation becomes the job's.
template <class Work>
void attempt(Ordered& ordered, Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::cancelled) throw;
    ordered.outcome.failure = error;
  }
}

// Jobs whose layers are decided once.
struct SharedGrid {
  std::vector<Ordered*> jobs;
  PhaseClock clock = {};

  Job& first() const { return jobs.front()->job; }

  // Hands layers to the jobs that have not failed; throws when none is left.
  template <class Write>
  void each(Write&& write) {
    for (Ordered* ordered : jobs) {
      if (!ordered->outcome.failure) attempt(*ordered, [&] { write(ordered->job); });
    }
    for (Ordered* ordered : jobs) {
      if (!ordered->outcome.failure) return;
    }
    throw *jobs.front()->outcome.failure;
  }
  LayerSink sink() {
    return {.quantized = [this](const std::string& module, const DecidedLayer& layer) { each([&](Job& job) { job.write(module, layer); }); },
            .dense = [this](const std::string& tensor, MatrixView<const float> v) { each([&](Job& job) { job.write_dense(tensor, v); }); }};
  }
};

void finish(SharedGrid& grid, const std::vector<LayerRecord>& records, const std::vector<std::string>& together) {
  for (Ordered* ordered : grid.jobs) {
    if (ordered->outcome.failure) continue;
    attempt(*ordered, [&] { ordered->outcome.report = ordered->job.finish(records, grid.clock, together); });
  }
}

// Grids that walk alike, one pass for all of them.
void decide(const Run& run, const std::vector<SharedGrid*>& grids) {
  std::vector<WalkTask> tasks;
  std::vector<std::string> together;
  for (SharedGrid* grid : grids) {
    tasks.push_back({.plan = grid->first().plan(), .options = grid->first().walk_options(), .sink = grid->sink(), .clock = grid->clock});
    for (const Ordered* ordered : grid->jobs) together.push_back(ordered->job.options().output);
  }
  const auto fail = [](SharedGrid& grid, const Error& error) {
    for (Ordered* ordered : grid.jobs) {
      if (!ordered->outcome.failure) ordered->outcome.failure = error;
    }
  };
  try {
    if (grids.front()->first().walks()) {
      walk_together(run.weights, run.windows, tasks);
    } else {
      WalkTask& task = tasks.front();
      task.records = task.options.recipe.method == Method::awq ? walk_awq(run.weights, task.plan, run.windows, task.options, task.sink, task.clock)
                                                              : round_all(run.weights, task.plan, task.options, task.sink, task.clock);
    }
  } catch (const Error& error) {
    if (error.code() == ErrorCode::cancelled) throw;
    for (SharedGrid* grid : grids) fail(*grid, error);
  }
  for (std::size_t i = 0; i < grids.size(); ++i) {
    try {
      if (tasks[i].failure) std::rethrow_exception(tasks[i].failure);
    } catch (const Error& error) {
      fail(*grids[i], error);
    }
    finish(*grids[i], tasks[i].records, together);
  }
}

std::vector<SharedGrid> share_grids(std::deque<Ordered>& jobs) {
  std::vector<SharedGrid> grids;
  for (Ordered& ordered : jobs) {
    const auto same = std::find_if(grids.begin(), grids.end(), [&](const SharedGrid& grid) { return grid.first().shares_grid_with(ordered.job); });
    same == grids.end() ? grids.push_back({{&ordered}}) : same->jobs.push_back(&ordered);
  }
  return grids;
}

// Those that one walk decides, in the order of their first jobs.
std::vector<std::vector<SharedGrid*>> share_walks(std::vector<SharedGrid>& grids) {
  std::vector<std::vector<SharedGrid*>> walks;
  for (SharedGrid& grid : grids) {
    const auto alike = std::find_if(walks.begin(), walks.end(), [&](const std::vector<SharedGrid*>& walk) {
      const Job& other = walk.front()->first();
      return grid.first().walks() && other.walks() && walk_alike(grid.first().options().recipe, other.options().recipe);
    });
    alike == walks.end() ? walks.push_back({&grid}) : alike->push_back(&grid);
  }
  return walks;
}

void check_same_text(const Recipe& a, const Recipe& b) {
  if (a.samples == b.samples && a.length == b.length && a.seed == b.seed && a.precision == b.precision) return;
  throw Error(ErrorCode::argument, "outputs of one run share their calibration text", {.expected = "the same samples, length, seed and precision", .found = "others"});
}

void check_names(const QuantizeOptions& options, const std::vector<OtherOutput>& others) {
  std::set<std::filesystem::path> taken = {std::filesystem::absolute(options.output).lexically_normal()};
  for (const OtherOutput& other : others) {
    if (taken.insert(std::filesystem::absolute(other.output).lexically_normal()).second) continue;
    throw Error(ErrorCode::argument, "two outputs have this name", {.file = other.output});
  }
}

std::vector<TokenWindows::Source> hashes_of_files(const Checkpoint& checkpoint) {
  std::set<std::string> paths;
  for (const TensorInfo& tensor : checkpoint.tensors()) paths.insert(tensor.file);
  std::vector<TokenWindows::Source> files;
  for (const std::string& path : paths) files.push_back({std::filesystem::path(path).filename().string(), hex(digest_of_file(path)), 0});
  return files;
}

}  // namespace

std::vector<QuantizeOutcome> quantize_all(const Checkpoint& checkpoint, const QuantizeOptions& options, const std::vector<OtherOutput>& others) {
  const ThreadScope threads(options.threads);
  Run run{.checkpoint = checkpoint, .weights = Weights(checkpoint, read_config(checkpoint)), .source = identify(checkpoint)};
  if (!options.base_model.empty()) run.source.repository = options.base_model;
  check_names(options, others);
  std::deque<Ordered> jobs;
  jobs.push_back({Job(run, options), {options.output, {}, {}}});
  for (const OtherOutput& other : others) {
    check_same_text(options.recipe, other.recipe);
    QuantizeOptions its = options;
    its.recipe = other.recipe;
    its.output = other.output;
    its.format = other.format;
    jobs.push_back({Job(run, std::move(its)), {other.output, {}, {}}});
  }
  if (std::any_of(jobs.begin(), jobs.end(), [](const Ordered& ordered) { return ordered.job.reads_text(); })) {
    run.windows = timed(run.clock, "calibration text", 0, [&] { return windows_for(checkpoint, options); });
    require_enough(run.windows, run.weights.config());
  }
  run.source_files = timed(run.clock, "hashing the source", 0, [&] { return hashes_of_files(checkpoint); });
  std::vector<SharedGrid> grids = share_grids(jobs);
  for (const auto& walk : share_walks(grids)) decide(run, walk);
  std::vector<QuantizeOutcome> outcomes;
  for (Ordered& ordered : jobs) outcomes.push_back(std::move(ordered.outcome));
  return outcomes;
}

QuantizeReport quantize(const Checkpoint& checkpoint, const QuantizeOptions& options) {
  QuantizeOutcome outcome = std::move(quantize_all(checkpoint, options, {}).front());
  if (outcome.failure) throw *outcome.failure;
  return *std::move(outcome.report);
}

}  // namespace neap
