#include <nlohmann/json.hpp>

#include "neap/quantize.h"

namespace neap {
namespace {

using Json = nlohmann::ordered_json;

Json json_of(const GroupLayout& layout) {
  return {{"bits", layout.bits},
          {"group_size", layout.group == 0 ? -1 : layout.group},
          {"symmetric", layout.symmetric},
          {"scale_type", name_of(layout.scale_type)}};
}

Json json_of(const LobcqLayout& layout) {
  return {{"block_array", layout.block_array}, {"block", layout.block}, {"num_codebooks", layout.codebooks}};
}

Json json_of(const Fp4Layout& layout) {
  return {{"format", name_of(layout.format)}, {"group_size", layout.group()}};
}

Json json_of(const GgufLayout& layout) { return {{"type", name_of(layout.type)}}; }

Json json_of(const WeightLayout& layout) {
  return std::visit([](const auto& its) { return json_of(its); }, layout);
}

// Stages that did not run are left out.
void put_objective(Json& j, const char* name, double value) {
  if (value >= 0) j[name] = value;
}

Json json_of(const LayerRecord& r) {
  Json objective = Json::object();
  put_objective(objective, "rounding", r.objective_rounding);
  put_objective(objective, "greedy", r.objective_greedy);
  put_objective(objective, "paths", r.objective_paths);
  put_objective(objective, "descent", r.objective_descent);
  put_objective(objective, "refit", r.objective_refit);
  return {{"module", r.module},
          {"shape", {r.rows, r.cols}},
          {"grid", json_of(r.layout)},
          {"objective", objective},
          {"relative_error", r.relative_error},
          {"damping", r.damping},
          {"factorizations", r.factorizations},
          {"dead_inputs", r.dead_inputs},
          {"near_dead_inputs", r.near_dead_inputs},
          {"rows_won", r.rows_won},
          {"coordinates_sampled", r.coordinates_sampled},
          {"descent_sweeps", r.sweeps},
          {"descent_moves", r.moves},
          {"unsettled_rows", r.unsettled_rows},
          {"refitted_groups", r.refitted},
          {"seconds", r.seconds}};
}

}  // namespace

std::string QuantizeReport::grid() const {
  if (recipe.scheme != Scheme::gguf) return words_for(layout);
  return "GGUF " + name_of(recipe.gguf.mix) + (recipe.gguf.pure ? ", one type for all" : "");
}

std::string QuantizeReport::to_json() const {
  Json j = {{"output", output}, {"command", command}, {"neap_version", neap_version}};
  j["source"] = {{"name", source}, {"files", Json::array()}};
  for (const auto& file : source_files) j["source"]["files"].push_back({{"name", file.name}, {"xxh3", file.hash}});
  j["recipe"] = Json::parse(recipe.to_json());
  j["bits_per_weight"] = {{"quantized_layers", bits_per_weight}, {"whole_file", file_bits_per_weight}};
  j["file_bytes"] = file_bytes;
  j["grid"] = json_of(layout);
  if (recipe.scheme == Scheme::gguf) j["grid"] = {{"type", name_of(recipe.gguf.mix)}};
  j["activations"] = activations;
  if (!layout_reason.empty()) j["group_size_chosen_because"] = layout_reason;
  j["calibration"] = {{"windows", calibration_windows}, {"tokens", calibration_tokens}};
  j["calibration"]["sources"] = Json::array();
  for (const auto& s : calibration) {
    j["calibration"]["sources"].push_back({{"name", s.name}, {"xxh3", s.hash}, {"tokens", s.tokens}});
  }
  j["engines"] = Json::array();
  for (const auto& e : engines) {
    j["engines"].push_back({{"name", e.name}, {"loads", e.loads}, {"reason", e.reason}});
  }
  if (verification) j["verification"] = Json::parse(verification->to_json());
  j["notes"] = notes;
  j["phases"] = Json::array();
  for (const auto& p : phases) {
    Json phase = {{"name", p.name}, {"seconds", p.seconds}};
    if (p.gflop > 0) phase["gflop"] = p.gflop;
    if (p.gflop > 0 && p.seconds > 0) phase["gflops"] = p.gflop / p.seconds;
    j["phases"].push_back(phase);
  }
  j["seconds"] = seconds;
  j["peak_memory_bytes"] = peak_memory;
  j["layers"] = Json::array();
  for (const auto& layer : layers) j["layers"].push_back(json_of(layer));
  return j.dump(1);
}

}  // namespace neap
