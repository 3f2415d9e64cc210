#include "quantize/card.h"

#include <cmath>

#include "export/model_card.h"

namespace neap {
namespace {

const char* words_for(Method method) {
  switch (method) {
    case Method::rtn: return "rounding to the nearest point of the grid";
    case Method::gptq: return "GPTQ (arXiv 2210.17323)";
    case Method::gptaq: return "GPTAQ (arXiv 2504.02692)";
    case Method::awq: return "AWQ (arXiv 2306.00978)";
    case Method::ojbkq: return "OJBKQ (arXiv 2602.08376): lattice decoding under a joint target, descent";
  }
  return "";
}

std::string files(const std::vector<TokenWindows::Source>& sources, bool tokens) {
  std::string text;
  for (const auto& source : sources) {
    text += (text.empty() ? "`" : "<br>`") + source.name + "`" + (tokens ? ", " + std::to_string(source.tokens) + " tokens" : "") + ", XXH3 `" + source.hash + "`";
  }
  return text;
}

// Over the layers that a solver reported on: what a layer's outputs lost, on the calibration text.
std::string output_error(const QuantizeReport& report) {
  double sum = 0;
  std::int64_t layers = 0;
  for (const LayerRecord& layer : report.layers) {
    if (layer.relative_error <= 0) continue;
    sum += layer.relative_error;
    ++layers;
  }
  return layers == 0 ? "" : decimal(100 * std::sqrt(sum / static_cast<double>(layers)), 2) + " % (root mean square over " + std::to_string(layers) + " layers, each on its run-time inputs)";
}

CardRows making(const QuantizeReport& report, const SourceIdentity& source) {
  return {{"program", "Neap " + report.neap_version},
          {"method", words_for(report.recipe.method)},
          {"source", files(report.source_files, false)},
          {"source's revision", source.revision.empty() ? "" : "`" + source.revision + "`"},
          {"calibration", files(report.calibration, true)},
          {"calibration windows", report.calibration_windows == 0 ? "" : std::to_string(report.calibration_windows) + ", " + std::to_string(report.calibration_tokens) + " tokens in all"}};
}

}  // namespace

std::string card_of(const QuantizeReport& report, const QuantizeOptions& options, FileFormat format, const SourceIdentity& source,
                    const std::string& closed_path) {
  CardFacts facts;
  facts.format = format;
  set_names(facts, options.output, closed_path);
  facts.source = source;
  facts.grid = report.grid();
  facts.engines = report.engines;
  facts.sizes = {{"weights of " + std::to_string(report.layers.size()) + " linear layers", facts.grid},
                 {"activations", report.activations},
                 {"bits per weight", decimal(report.bits_per_weight, 3) + " of these layers, " + decimal(report.file_bits_per_weight, 3) + " of the whole"},
                 {"tensors", decimal_size(report.file_bytes)}};
  for (const std::string& note : report.notes) facts.sizes.emplace_back("note", note);
  if (report.verification) facts.results = verification_rows(*report.verification);
  facts.results.emplace_back("layers' outputs, \\|X(W^ - W)\\| / \\|XW\\|", output_error(report));
  facts.making = making(report, source);
  facts.command = options.command;
  return model_card(facts);
}

}  // namespace neap
