// AutoGPTQ's and GPTQModel's form as an OutputFormat. Byte by byte in docs/formats/gptq.md.
#include <algorithm>

#include "codec/gptq_pack.h"
#include "export/dense_tensors.h"
#include "export/output_format.h"
#include "neap/error.h"

namespace neap {
namespace {

using OrderedJson = nlohmann::ordered_json;

// One name and no other, in the words of `dynamic`.
std::string exactly(const char* sign, const std::string& module) {
  std::string pattern = std::string(sign) + ":^";
  for (const char c : module) pattern += c == '.' ? std::string("\\.") : std::string(1, c);
  return pattern + "$";
}

class GptqFormat final : public OutputFormat {
 public:
  explicit GptqFormat(GptqVersion version) : version_(version) {}

  void check(const std::string& module, const WeightLayout& layout, const Shape& shape) const override {
    const auto* grid = std::get_if<GroupLayout>(&layout);
    const std::string objection = grid ? gptq_objection(*grid, version_, shape[0], shape[1]) : "holds integer grids alone";
    if (!objection.empty()) {
      throw Error(ErrorCode::argument, "the GPTQ format " + objection, {.tensor = module, .expected = "another format, or --ignore", .found = to_string(shape)});
    }
    if (module == "lm_head") throw Error(ErrorCode::argument, "the GPTQ format keeps the head as it is", {.tensor = module});
  }

  std::vector<PartInfo> parts(const WeightLayout& layout, const Shape& shape) const override {
    return gptq_parts(std::get<GroupLayout>(layout), shape[0], shape[1]);
  }

  std::vector<std::vector<std::byte>> encode(const DecidedLayer& layer) const override {
    return encode_gptq(std::get<QuantizedTensor>(layer.weight), version_);
  }

  std::string config_file() const override { return "quantize_config.json"; }

  // What most modules have is said once, exceptions by name.
  OrderedJson quantization_config(const ModelConfig& config, const WeightLayouts& layers) const override {
    const GroupLayout common = most_frequent(layers);
    OrderedJson dynamic = OrderedJson::object();
    for (const std::string& module : linear_modules(config)) {
      const auto layer = layers.find(module);
      if (module == "lm_head") continue;
      if (layer == layers.end()) {
        dynamic[exactly("-", module)] = OrderedJson::object();
      } else if (const auto& own = std::get<GroupLayout>(layer->second); own != common) {
        dynamic[exactly("+", module)] = {{"bits", own.bits}, {"group_size", group_of(own)}, {"sym", own.symmetric}};
      }
    }
    const char* format = version_ == GptqVersion::v1 ? "gptq" : "gptq_v2";
    OrderedJson words = {{"quant_method", "gptq"},      {"bits", common.bits},
                         {"group_size", group_of(common)}, {"sym", common.symmetric},
                         {"desc_act", false},           {"lm_head", false},
                         {"checkpoint_format", format}, {"pack_dtype", "int32"},
                         {"true_sequential", true},     {"meta", {{"quantizer", {"neap"}}}}};
    if (!dynamic.empty()) words["dynamic"] = dynamic;
    return words;
  }

 private:
  static std::int64_t group_of(const GroupLayout& layout) { return layout.group == 0 ? -1 : layout.group; }

  static GroupLayout most_frequent(const WeightLayouts& layers) {
    const auto times = [&](const WeightLayout& layout) {
      return std::count_if(layers.begin(), layers.end(), [&](const auto& layer) { return layer.second == layout; });
    };
    const auto most = std::max_element(layers.begin(), layers.end(), [&](const auto& a, const auto& b) { return times(a.second) < times(b.second); });
    return std::get<GroupLayout>(most->second);
  }

  GptqVersion version_;
};

}  // namespace

std::unique_ptr<const OutputFormat> make_gptq_format(GptqVersion version) { return std::make_unique<GptqFormat>(version); }

}  // namespace neap
