#include "quantize/job.h"

#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "export/verify.h"
#include "neap/error.h"
#include "neap/version.h"
#include "quantize/calibration_text.h"
#include "quantize/card.h"
#include "quantize/output_choice.h"

namespace neap {
namespace {

std::uint64_t peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) * 1024;
  }
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
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

// The second moments of a layer's inputs are in memory as a whole, whatever the limit.
void note_memory(const QuantizeOptions& options, QuantizeReport& report) {
  report.peak_memory = peak_memory();
  if (options.max_memory == 0 || report.peak_memory <= options.max_memory) return;
  const auto mebibytes = [](std::uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; };
  report.notes.push_back("peak memory is " + mebibytes(report.peak_memory) + ", more than the " +
                         mebibytes(options.max_memory) +
                         " to plan for: the second moments of the widest layer's inputs take what they take");
}

// Of a GGUF's: "Q4_0, Q4_1"; empty where they are plain numbers.
std::string block_types_of_layers(const Checkpoint& checkpoint) {
  std::set<std::string_view> types;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    if (tensor.name.starts_with("blk.") && block_elements(tensor.type) > 1) types.insert(name_of(tensor.type));
  }
  std::string names;
  for (const std::string_view type : types) names += (names.empty() ? "" : ", ") + std::string(type);
  return names;
}

bool moves_factors(const Recipe& recipe) { return recipe.method == Method::awq || balances(recipe); }

// The report's JSON, and what `neap verify` will want to know.
std::string with_record(const QuantizeReport& report, const ExportRecord& record) {
  auto json = nlohmann::ordered_json::parse(report.to_json());
  json["written"] = record.to_json();
  return json.dump(1) + "\n";
}

std::int64_t weights_of(const Checkpoint& checkpoint) {
  std::int64_t count = 0;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    std::int64_t elements = 1;
    for (const std::int64_t extent : tensor.shape) elements *= extent;
    count += elements;
  }
  return count;
}

}  // namespace

Job::Job(const Run& run, QuantizeOptions options)
    : run_(run), options_(std::move(options)), plan_(plan_for_output(options_, run.weights.config())) {
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

bool Job::reads_text() const {
  return options_.recipe.method != Method::rtn || input_scales(options_) == InputScales::fixed || balances(options_.recipe);
}

WalkOptions Job::walk_options() const {
  const auto parent = std::filesystem::absolute(options_.output).lexically_normal().parent_path();
  return {.recipe = options_.recipe,
          .codebooks = options_.recipe.scheme == Scheme::lobcq ? &codebooks_ : nullptr,
          .input_scales = input_scales(options_) == InputScales::fixed,
          .importances = importances_ ? &*importances_ : nullptr,
          .activation_memory = memory_limit(options_.max_memory) / 4,
          .scratch = parent.string(),
          .progress = options_.progress};
}

void Job::write(const std::string& module, DecidedLayer layer) {
  if (auto* tensor = std::get_if<QuantizedTensor>(&layer.weight)) tensor->layout = std::get<GroupLayout>(*plan_.find(module));
  writer_->write(module, layer);
}

// A run over calibration text has passed many times as many tokens through the model.
bool Job::predicts() const {
  return options_.predict.value_or(reads_text() || weights_of(run_.checkpoint) <= kQuickPrediction);
}

VerifyReport Job::verify(const Checkpoint& closed, const ExportRecord& record) const {
  VerifyOptions how{.progress = options_.progress};
  if (!predicts()) how.tokens = 0;
  VerifyReport report = verify_written(closed, &run_.checkpoint, how, record);
  if (!predicts()) report.notes.emplace_back("predictions were not compared, which takes as long as rounding: `neap verify OUT --against MODEL` does, or `--verify`");
  return report;
}

QuantizeReport Job::finish(std::vector<LayerRecord> records, PhaseClock clock, const std::vector<std::string>& together) {
  for (LayerRecord& record : records) record.layout = *plan_.find(record.module);
  report_.layers = std::move(records);
  describe(together);
  timed(clock, "writing", 0, [&] { writer_->close(); });
  const Checkpoint closed = Checkpoint::open(writer_->closed_path());
  const ExportRecord record{writer_->tensor_digests(), header_digest(closed), moves_factors(options_.recipe)};
  if (options_.verify) report_.verification = timed(clock, "verifying", 0, [&] { return verify(closed, record); });
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

void Job::describe(const std::vector<std::string>& together) {
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
  for (const auto& [words, count] : plan_.fallbacks) report_.notes.push_back(words + (count > 1 ? " (" + std::to_string(count) + " of them)" : ""));
  if (const std::string types = block_types_of_layers(run_.checkpoint); !types.empty()) {
    report_.notes.push_back("the source's layers are quantized already (" + types + "): what that has lost stays lost, and this adds to it");
  }
  if (static_cast<std::int64_t>(run_.windows.longest()) > run_.weights.config().max_positions) {
    report_.notes.push_back("calibration windows are longer than the model's " + std::to_string(run_.weights.config().max_positions) + " positions");
  }
  report_.notes.insert(report_.notes.end(), writer_->notes().begin(), writer_->notes().end());
  std::string others;
  for (const std::string& output : together) {
    if (output != options_.output) others += (others.empty() ? "" : ", ") + output;
  }
  if (!others.empty()) report_.notes.push_back("decided together with " + others + ": what was done for all of them is in the times of " + together.front());
}

}  // namespace neap
