// neap/export.h: a module at a time, looked at twice: whether and how the format holds it, then into the file.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "base/parallel.h"
#include "export/dense_tensors.h"
#include "export/engines.h"
#include "export/export_record.h"
#include "export/gguf_mix.h"
#include "export/gguf_model_writer.h"
#include "export/model_card.h"
#include "export/model_writer.h"
#include "export/source_grid.h"
#include "io/json.h"
#include "neap/error.h"
#include "neap/export.h"
#include "neap/version.h"

namespace neap {
namespace {

std::optional<GptqVersion> gptq_version(FileFormat format) {
  if (format == FileFormat::gptq) return GptqVersion::v1;
  if (format == FileFormat::gptq_v2) return GptqVersion::v2;
  return {};
}

class Conversion {
 public:
  Conversion(const Checkpoint& input, const ConvertOptions& options)
      : options_(options), weights_(input, read_config(input)), gguf_source_(input.gguf() != nullptr) {
    if (options.format == FileFormat::neap) {
      throw Error(ErrorCode::argument, "nothing but `neap quantize --scheme LOBCQ` writes this format", {.expected = "compressed-tensors, gptq, gptq_v2 or gguf", .found = "neap"});
    }
    if (gguf_source_ && options.format == FileFormat::gguf) throw Error(ErrorCode::argument, "is a GGUF already", {.file = input.path()});
  }

  ConvertReport run() {
    const auto start = std::chrono::steady_clock::now();
    visit([&](const std::string& module, const SourceGrid& grid) { look_at(module, grid); });
    if (layouts_.empty()) {
      throw Error(ErrorCode::argument, dense_.empty() ? "nothing in it is quantized: `neap quantize` does that" : "nothing in it has a grid that the format holds", {.file = input().path()});
    }
    settle_symmetry();
    const auto writer = make_writer();
    visit([&](const std::string& module, const SourceGrid& grid) {
      if (layouts_.contains(module)) writer->write(module, {decided(module, grid), {}});
    });
    describe(*writer);
    writer->close();
    verify(*writer);
    report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    write_companions(*writer);
    writer->commit();
    return std::move(report_);
  }

 private:
  const Checkpoint& input() const { return weights_.checkpoint(); }

  void visit(const std::function<void(const std::string&, const SourceGrid&)>& use) {
    const std::int64_t layers = weights_.config().layers;
    for (std::int64_t layer = 0; layer < layers; ++layer) {
      if (options_.progress && !options_.progress({.stage = "converting", .done = done_++, .total = 2 * layers})) throw Error(ErrorCode::cancelled, "stopped");
      for (std::size_t r = 0; r < kRoles; ++r) {
        const auto role = static_cast<Role>(r);
        if (const auto grid = source_grid(weights_, layer, role)) use(module_name(layer, role), *grid);
      }
    }
    if (const auto head = source_grid_of_head(weights_)) use("lm_head", *head);
  }

  // Decides on a layout, or refuses.
  void look_at(const std::string& module, const SourceGrid& grid) {
    if (weights_.stored_inputs(module)) activations_ = true;
    if (options_.format == FileFormat::gguf) return look_for_blocks(module, grid);
    const Multiples& from = grid.multiples;
    const auto cols = static_cast<std::int64_t>(from.values.cols());
    GroupLayout layout{.bits = grid.bits, .group = from.group == cols && !gguf_source_ ? 0 : from.group, .symmetric = true,
                       .scale_type = gptq_version(options_.format) ? DType::f16 : grid.scale_type};
    if (from.group == 0) return refuse(module, grid);
    if (!exact_groups(from, layout)) {
      layout.symmetric = false;
      if (!exact_groups(from, layout)) return refuse(module, grid);
    }
    layouts_[module] = layout;
  }

  void look_for_blocks(const std::string& module, const SourceGrid& grid) {
    if (grid.mxfp4) {
      layouts_[module] = GgufLayout{DType::mxfp4};
      return;
    }
    if (grid.multiples.group != 0) {
      for (const DType type : exact_block_types()) {
        if (!exact_blocks(grid.multiples, type)) continue;
        layouts_[module] = GgufLayout{type};
        return;
      }
    }
    refuse(module, grid);
  }

  void refuse(const std::string& module, const SourceGrid& grid) {
    if (options_.allow_dense && gguf_source_) {
      dense_.push_back(module);
      return;
    }
    std::string instead = "`neap quantize` of the original model with a scheme of this format";
    if (gguf_source_) instead += ", or --allow-dense, which keeps such layers as F32";
    if (options_.format == FileFormat::gguf && grid.multiples.group % 32 != 0) instead = "groups that are a multiple of 32, which GGUF's blocks hold: " + instead;
    throw Error(ErrorCode::argument, "the format " + name_of(options_.format) + " has no grid with these very values",
                {.file = input().path(), .tensor = module, .expected = instead, .found = grid.words});
  }

  // One word for all layers of the same bits and group: with zero points if one of them needs those.
  void settle_symmetry() {
    std::map<std::pair<int, std::int64_t>, bool> symmetric;
    for (auto& [module, layout] : layouts_) {
      if (const auto* its = std::get_if<GroupLayout>(&layout)) {
        symmetric.try_emplace({its->bits, its->group}, true).first->second &= its->symmetric;
      }
    }
    for (auto& [module, layout] : layouts_) {
      if (auto* its = std::get_if<GroupLayout>(&layout)) its->symmetric = symmetric.at({its->bits, its->group});
    }
  }

  QuantizedWeight decided(const std::string& module, const SourceGrid& grid) const {
    const WeightLayout& layout = layouts_.at(module);
    if (grid.mxfp4 && std::holds_alternative<GgufLayout>(layout)) return *grid.mxfp4;
    if (const auto* blocks = std::get_if<GgufLayout>(&layout)) return exact_blocks(grid.multiples, blocks->type).value();
    return exact_groups(grid.multiples, std::get<GroupLayout>(layout)).value();
  }

  DType most_frequent_type() const {
    std::map<DType, int> times;
    for (const auto& [module, layout] : layouts_) ++times[std::get<GgufLayout>(layout).type];
    return std::max_element(times.begin(), times.end(), [](const auto& a, const auto& b) { return a.second < b.second; })->first;
  }

  std::unique_ptr<ModelOutput> make_writer() const {
    ExportOptions how{.output = options_.output, .overwrite = options_.overwrite, .max_shard_bytes = options_.max_shard_bytes,
                      .progress = options_.progress, .from_quantized = true};
    if (options_.format == FileFormat::gguf) {
      GgufContents contents{.mix = simple_mix(most_frequent_type()), .modules = {}, .rounded = {}, .round = {}};
      for (const auto& [module, layout] : layouts_) contents.modules[module] = std::get<GgufLayout>(layout);
      return make_gguf_output(weights_, std::move(contents), std::move(how));
    }
    const auto gptq = gptq_version(options_.format);
    return std::make_unique<ModelWriter>(weights_, layouts_, gptq ? make_gptq_format(*gptq) : make_compressed_tensors_format(), std::move(how));
  }

  void describe(const ModelOutput& writer) {
    report_.output = options_.output;
    std::map<std::string, std::int64_t> grids;
    for (const auto& [module, layout] : layouts_) ++grids[words_for(layout)];
    report_.grids.assign(grids.begin(), grids.end());
    std::stable_sort(report_.grids.begin(), report_.grids.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
    report_.file_bytes = writer.tensor_bytes();
    report_.file_bits_per_weight = writer.bits_per_weight();
    report_.engines = engines();
    report_.notes = writer.notes();
    if (activations_) report_.notes.emplace_back("activations stay at 16 bits: the 4-bit format that the input names for them is left out");
    if (!dense_.empty()) {
      const std::string more = dense_.size() > 1 ? " and " + std::to_string(dense_.size() - 1) + " more" : "";
      report_.notes.push_back(dense_[0] + more + ": no grid of the format holds these values, stored as F32");
    }
  }

  std::vector<QuantizeReport::Engine> engines() const {
    if (options_.format == FileFormat::gguf) return engines_for_gguf(most_frequent_type());
    std::map<std::string, GroupLayout> layers;
    for (const auto& [module, layout] : layouts_) layers[module] = std::get<GroupLayout>(layout);
    const auto gptq = gptq_version(options_.format);
    return gptq ? engines_for_gptq(layers, *gptq) : engines_for(weights_.config(), layers);
  }

  // Not one value may be another.
  void verify(const ModelOutput& writer) {
    const Checkpoint closed = Checkpoint::open(writer.closed_path());
    record_ = {writer.tensor_digests(), header_digest(closed), false};
    report_.verification = verify_written(closed, &input(), {.progress = options_.progress}, record_);
    if (report_.verification.worst.empty() || report_.verification.worst[0].error == 0) return;
    throw Error(ErrorCode::io, "read back, it decodes to something else than the input", {.file = writer.closed_path(), .tensor = report_.verification.worst[0].module});
  }

  void write_companions(ModelOutput& writer) const {
    auto json = nlohmann::ordered_json::parse(report_.to_json());
    json["converted_from"] = input().path();
    json["command"] = options_.command;
    json["neap_version"] = version();
    const nlohmann::ordered_json recipe = recipe_of_input();
    if (!recipe.is_null()) json["recipe"] = recipe;
    json["written"] = record_.to_json();
    writer.write_file("quantization_report.json", json.dump(1) + "\n");
    if (!recipe.is_null()) writer.write_file("neap_recipe.json", recipe.dump(1) + "\n");
    writer.write_file("README.md", card(writer.closed_path()));
  }

  // How the codes came to be, if Neap decided them; null: not known.
  nlohmann::ordered_json recipe_of_input() const {
    const std::string path = report_path(input());
    if (!std::filesystem::exists(path)) return nullptr;
    parse_json(read_text_file(path), path);  // strict, where the next line is not
    const auto report = nlohmann::ordered_json::parse(read_text_file(path));
    return report.contains("recipe") ? report["recipe"] : nlohmann::ordered_json(nullptr);
  }

  std::string card(const std::string& closed_path) const {
    CardFacts facts;
    facts.format = options_.format;
    set_names(facts, options_.output, closed_path);
    facts.source = identify(input());
    if (!options_.base_model.empty()) facts.source.repository = options_.base_model;
    facts.grid = report_.grids[0].first;
    facts.engines = report_.engines;
    for (const auto& [words, count] : report_.grids) facts.sizes.emplace_back(std::to_string(count) + " layers", words);
    facts.sizes.emplace_back("tensors", decimal_size(report_.file_bytes) + ", " + decimal(report_.file_bits_per_weight, 3) + " bits per weight in all");
    facts.results = {{"weights", "equal to those of the quantized model that it was converted from, value for value"}};
    facts.making = {{"program", "Neap " + std::string(version())}, {"converted from", "`" + input().path() + "`, without rounding"}};
    facts.command = options_.command;
    return model_card(facts);
  }

  const ConvertOptions& options_;
  Weights weights_;
  bool gguf_source_, activations_ = false;
  WeightLayouts layouts_;
  std::vector<std::string> dense_;
  ExportRecord record_;
  ConvertReport report_;
  std::int64_t done_ = 0;
};

}  // namespace

ConvertReport convert(const Checkpoint& input, const ConvertOptions& options) {
  const ThreadScope threads(options.threads);
  return Conversion(input, options).run();
}

std::string ConvertReport::to_json() const {
  nlohmann::ordered_json j = {{"output", output}, {"file_bytes", file_bytes}, {"bits_per_weight", {{"whole_file", file_bits_per_weight}}}};
  j["grids"] = nlohmann::ordered_json::array();
  for (const auto& [words, count] : grids) j["grids"].push_back({{"grid", words}, {"layers", count}});
  j["engines"] = nlohmann::ordered_json::array();
  for (const auto& e : engines) j["engines"].push_back({{"name", e.name}, {"loads", e.loads}, {"reason", e.reason}});
  j["verification"] = nlohmann::ordered_json::parse(verification.to_json());
  j["notes"] = notes;
  j["seconds"] = seconds;
  return j.dump(1);
}

}  // namespace neap
