// neap inspect: what a model file holds, supported or not.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "commands.h"
#include "neap/error.h"
#include "neap/model.h"
#include "neap/verify.h"
#include "options.h"

namespace neap::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFooter[] =
    "Works for every checkpoint whose container can be read, also if Neap cannot run the model.\n"
    "Bits per weight are counted from the bytes in the file: of the quantized layers (codes, scales\n"
    "and zero points over their weights; no embedding) and of the whole file (all tensors over all\n"
    "weights).\n"
    "\n"
    "Examples:\n"
    "  neap inspect model.gguf\n"
    "  neap inspect small-w4 --tensors\n"
    "  neap inspect small-w4 --json | jq .bits_per_weight";

struct TypeTotal {
  std::int64_t tensors = 0, elements = 0;
  std::uint64_t bytes = 0;
};

struct Summary {
  std::map<std::string, TypeTotal> types;
  std::int64_t weights = 0;  // those of packed layers counted one by one
  std::uint64_t bytes = 0;
  std::int64_t quantized_layers = 0, quantized_weights = 0;
  std::uint64_t quantized_bytes = 0;

  static double bits(std::uint64_t bytes_, std::int64_t weights_) {
    return weights_ > 0 ? 8.0 * static_cast<double>(bytes_) / static_cast<double>(weights_) : 0;
  }
  double file_bits() const { return bits(bytes, weights); }
  double quantized_bits() const { return bits(quantized_bytes, quantized_weights); }
};

std::int64_t elements(const TensorInfo& tensor) {
  std::int64_t count = 1;
  for (const std::int64_t extent : tensor.shape) count *= extent;
  return count;
}

constexpr std::string_view kPacked = ".weight_packed", kGptqPacked = ".qweight";
// What a packed layer consists of, in compressed-tensors' words, our own, and GPTQ's.
constexpr std::string_view kParts[] = {".weight_packed", ".weight_selector", ".weight_scale", ".weight_zero_point",
                                       ".weight_g_idx", ".qweight", ".qzeros", ".scales"};
// What belongs to packed layers and is no payload: one number a layer, or none at all.
bool is_beside_weights(std::string_view name) {
  return name.ends_with(".weight_shape") || name.ends_with("_global_scale") || name.starts_with("lobcq.") ||
         name.ends_with(".g_idx");
}

// Weights of a packed layer: rows times columns, as weight_shape has them; without one, two to a byte
// (4-bit floats).
std::int64_t packed_weights(const Checkpoint& checkpoint, const std::string& module) {
  if (!checkpoint.find(module + ".weight_shape")) return 2 * elements(checkpoint.info(module + std::string(kPacked)));
  const TensorInfo& shape = checkpoint.info(module + ".weight_shape");
  const auto bytes = checkpoint.bytes(shape);
  std::int64_t extents[2] = {};
  if (shape.type != DType::i64 || bytes.size() != sizeof extents) {
    throw Error(ErrorCode::format, "a packed layer's shape is not two I64 numbers",
                {.file = shape.file, .tensor = shape.name, .offset = shape.offset});
  }
  std::memcpy(extents, bytes.data(), sizeof extents);
  return extents[0] * extents[1];
}

// Outputs are the words' columns; there is a group index for each input.
std::int64_t gptq_weights(const Checkpoint& checkpoint, const std::string& module) {
  return checkpoint.info(module + std::string(kGptqPacked)).shape.back() * elements(checkpoint.info(module + ".g_idx"));
}

// In GGUF files the embedding is often of a block type too, but it is no layer that multiplies.
bool is_embedding(const std::string& name) { return name == "token_embd.weight"; }

Summary summarize(const Checkpoint& checkpoint) {
  Summary s;
  for (const TensorInfo& tensor : checkpoint.tensors()) {
    TypeTotal& type = s.types[std::string(name_of(tensor.type))];
    ++type.tensors;
    type.elements += elements(tensor);
    type.bytes += tensor.bytes;
    s.bytes += tensor.bytes;
    const bool part = std::any_of(std::begin(kParts), std::end(kParts),
                                  [&](auto suffix) { return tensor.name.ends_with(suffix); });
    const bool gptq = tensor.name.ends_with(kGptqPacked);
    if (gptq || tensor.name.ends_with(kPacked)) {
      const std::string module = tensor.name.substr(0, tensor.name.rfind('.'));
      const std::int64_t weights = gptq ? gptq_weights(checkpoint, module) : packed_weights(checkpoint, module);
      ++s.quantized_layers;
      s.quantized_weights += weights;
      s.weights += weights;
    } else if (block_elements(tensor.type) > 1 && !is_embedding(tensor.name)) {
      ++s.quantized_layers;
      s.quantized_weights += elements(tensor);
      s.quantized_bytes += tensor.bytes;
      s.weights += elements(tensor);
    } else if (!part && !is_beside_weights(tensor.name)) {
      s.weights += elements(tensor);
    }
    if (part) s.quantized_bytes += tensor.bytes;
  }
  return s;
}

// What is known of the architecture, or why it is not.
struct Architecture {
  std::optional<ModelConfig> config;
  std::string name, trouble;
};

Architecture architecture_of(const Checkpoint& checkpoint) {
  Architecture result;
  try {
    result.config = read_config(checkpoint);
    result.name = result.config->family;
  } catch (const Error& error) {
    result.trouble = error.what();
  }
  const Json config = Json::parse(checkpoint.config_json(), nullptr, /*allow_exceptions=*/false);
  if (config.is_object() && config.contains("model_type") && config["model_type"].is_string()) {
    result.name = config["model_type"].get<std::string>();
  }
  return result;
}

// The recipe that Neap left beside its output; null for anything else.
Json recipe_of(const Checkpoint& checkpoint) {
  std::ifstream in(report_path(checkpoint), std::ios::binary);
  const auto shallow = [](int depth, Json::parse_event_t, Json&) { return depth < 64; };  // to be printed by recursion
  const Json report = Json::parse(in, shallow, /*allow_exceptions=*/false);
  return report.is_object() && report.contains("recipe") && report["recipe"].is_object() ? report["recipe"] : Json(nullptr);
}

std::string dense_type(const ModelConfig& c) { return std::string(name_of(c.dtype)); }

Json json_of(const ModelConfig& c) {
  Json switches = Json::array();
  for (const LayerSwitches& layer : c.switches) {
    switches.push_back({{"rope", layer.rope}, {"window", layer.window}});
  }
  return {{"family", c.family},           {"layers", c.layers},
          {"hidden", c.hidden},           {"intermediate", c.intermediate},
          {"vocabulary", c.vocabulary},   {"heads", c.heads},
          {"kv_heads", c.kv_heads},       {"head_dim", c.head_dim},
          {"max_positions", c.max_positions}, {"rope_theta", c.rope_theta},
          {"norm_epsilon", c.norm_epsilon},   {"tied_head", c.tied_head},
          {"qkv_bias", c.qkv_bias},       {"qk_norm", c.qk_norm},
          {"dtype", dense_type(c)},       {"layer_switches", switches}};
}

std::string line(std::string_view name, const std::string& value) {
  return fmt::format("{:<16}{}\n", name, value);
}

std::string traits(const ModelConfig& c) {
  std::string text = c.tied_head ? "tied head" : "head of its own";
  if (c.qkv_bias) text += ", biases on q, k, v";
  if (c.qk_norm) text += ", norms on q and k";
  const auto windowed = std::count_if(c.switches.begin(), c.switches.end(),
                                      [](const LayerSwitches& s) { return s.window > 0; });
  const auto without_rope = std::count_if(c.switches.begin(), c.switches.end(),
                                          [](const LayerSwitches& s) { return !s.rope; });
  if (windowed > 0) text += fmt::format(", sliding window in {} layers", windowed);
  if (without_rope > 0) text += fmt::format(", no rope in {} layers", without_rope);
  return text;
}

std::string describe(const Architecture& a) {
  if (!a.config) {
    return (a.name.empty() ? "" : line("architecture", a.name)) + line("not supported", a.trouble);
  }
  const ModelConfig& c = *a.config;
  return line("architecture", fmt::format("{}, {} layers, {} positions", a.name, c.layers,
                                          count_text(c.max_positions))) +
         line("widths", fmt::format("hidden {}, intermediate {}, vocabulary {}", c.hidden,
                                    c.intermediate, count_text(c.vocabulary))) +
         line("attention", fmt::format("{} heads of {}, {} for keys and values", c.heads, c.head_dim,
                                       c.kv_heads)) +
         line("", traits(c));
}

std::string describe(const Summary& s) {
  std::string text = line("weights", count_text(s.weights)) + line("tensors", size_text(s.bytes));
  for (const auto& [name, type] : s.types) {
    text += line("  " + name, fmt::format("{} tensors, {}", type.tensors, size_text(type.bytes)));
  }
  if (s.quantized_layers > 0) {
    text += line("bits per weight",
                 fmt::format("{:.3f} of the {} quantized layers, {:.3f} of the whole file",
                             s.quantized_bits(), s.quantized_layers, s.file_bits()));
  } else {
    text += line("bits per weight", fmt::format("{:.3f} of the whole file, nothing is quantized",
                                                s.file_bits()));
  }
  return text;
}

// "quantization_config" of a Hugging Face directory, or null.
Json quantization_of(const Checkpoint& checkpoint) {
  const Json config = Json::parse(checkpoint.config_json(), nullptr, /*allow_exceptions=*/false);
  return config.is_object() && config.contains("quantization_config") ? config["quantization_config"] : Json(nullptr);
}

// Its plain settings in one line: a scheme and its layout.
std::string describe_quantization(const Json& quantization) {
  if (!quantization.is_object()) return "";
  std::string text;
  for (const auto& [key, value] : quantization.items()) {
    if (value.is_structured() || value.is_null()) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key,
                        value.is_string() ? value.get<std::string>() : value.dump());
  }
  return line("quantization", text);
}

std::string describe_recipe(const Json& recipe) {
  if (recipe.is_null()) return "";
  std::string text;
  for (const auto& [key, value] : recipe.items()) {
    if (value.empty()) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key,
                        value.is_string() ? value.get<std::string>() : value.dump());
  }
  return line("made by Neap", text);
}

std::string tensor_table(const Checkpoint& checkpoint) {
  std::string text = "\n";
  for (const TensorInfo& t : checkpoint.tensors()) {
    text += fmt::format("{:<52} {:<6} {:<16} {:>12} bytes at {}\n", t.name, name_of(t.type),
                        to_string(t.shape), t.bytes, t.offset);
  }
  return text;
}

struct InspectCommand {
  std::string model;
  bool tensors = false;
  CommonOptions common;
};

void print_json(const InspectCommand& c, const Checkpoint& checkpoint, const Architecture& a,
                const Summary& s, Console& console) {
  Json out = {{"model", checkpoint.path()},
              {"kind", checkpoint.kind() == Checkpoint::Kind::gguf ? "gguf" : "huggingface"},
              {"architecture", a.name},
              {"supported", a.config.has_value()}};
  if (a.config) out["config"] = json_of(*a.config);
  if (!a.config) out["trouble"] = a.trouble;
  out["weights"] = s.weights;
  out["bytes"] = s.bytes;
  out["types"] = Json::object();
  for (const auto& [name, type] : s.types) {
    out["types"][name] = {{"tensors", type.tensors}, {"elements", type.elements}, {"bytes", type.bytes}};
  }
  out["bits_per_weight"] = {{"whole_file", s.file_bits()}};
  if (s.quantized_layers > 0) out["bits_per_weight"]["quantized_layers"] = s.quantized_bits();
  if (const Json q = quantization_of(checkpoint); !q.is_null()) out["quantization_config"] = q;
  if (const Json recipe = recipe_of(checkpoint); !recipe.is_null()) out["recipe"] = recipe;
  if (c.tensors) {
    out["tensors"] = Json::array();
    for (const TensorInfo& t : checkpoint.tensors()) {
      out["tensors"].push_back({{"name", t.name}, {"type", name_of(t.type)}, {"shape", t.shape},
                                {"bytes", t.bytes}, {"file", t.file}, {"offset", t.offset}});
    }
  }
  console.print(out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void run(const InspectCommand& c, Console& console) {
  const auto checkpoint = Checkpoint::open(c.model);
  const Architecture architecture = architecture_of(checkpoint);
  const Summary summary = summarize(checkpoint);
  if (c.common.json) return print_json(c, checkpoint, architecture, summary, console);
  console.print(line("model", checkpoint.path()) + describe(architecture) + describe(summary) +
                describe_quantization(quantization_of(checkpoint)) +
                describe_recipe(recipe_of(checkpoint)) +
                (c.tensors ? tensor_table(checkpoint) : ""));
}

}  // namespace

Command make_inspect(CLI::App& program) {
  auto command = std::make_shared<InspectCommand>();
  CLI::App* app = program.add_subcommand("inspect", "Show what a model file holds");
  add_model(*app, command->model);
  app->add_flag("--tensors", command->tensors, "also list every tensor");
  app->add_flag("--json", command->common.json, "print one JSON object instead of text");
  app->footer(kFooter);
  return {app, [command](Console& console) {
            command->common.apply(console);
            run(*command, console);
          }};
}

}  // namespace neap::cli
