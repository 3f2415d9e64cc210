// Neap's own container of LO-BCQ weights as an OutputFormat. Byte by byte in docs/formats/neap.md.
#include <cstring>

#include "codec/lobcq_pack.h"
#include "export/dense_tensors.h"
#include "export/output_format.h"
#include "neap/error.h"

namespace neap {
namespace {

std::vector<std::byte> bytes_of(float value) {
  std::vector<std::byte> bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

class NeapFormat final : public OutputFormat {
 public:
  NeapFormat(CodebookSet set, InputScales inputs) : set_(std::move(set)), inputs_(inputs) {
    check_codebooks(set_.layout, set_.weights);
    check_codebooks(set_.layout, set_.activations);
  }

  void check(const std::string& module, const WeightLayout& layout, const Shape&) const override {
    const auto* lobcq = std::get_if<LobcqLayout>(&layout);
    if (!lobcq || *lobcq != set_.layout) {
      throw Error(ErrorCode::argument,
                  "Neap's own container holds LO-BCQ alone, one layout for all modules",
                  {.tensor = module});
    }
    if (module == "lm_head") {
      throw Error(ErrorCode::argument, "Neap's own container keeps the head as it is",
                  {.tensor = module});
    }
  }

  std::vector<PartInfo> parts(const WeightLayout& layout, const Shape& shape) const override {
    std::vector<PartInfo> parts = lobcq_parts(std::get<LobcqLayout>(layout), shape[0], shape[1]);
    if (inputs_ == InputScales::fixed) parts.push_back({std::string(kInputScale), DType::f32, {1}});
    return parts;
  }

  std::vector<std::vector<std::byte>> encode(const DecidedLayer& layer) const override {
    NEAP_CHECK(layer.input_scale.has_value() == (inputs_ == InputScales::fixed));
    auto parts = encode_lobcq_parts(std::get<LobcqTensor>(layer.weight));
    if (layer.input_scale) parts.push_back(bytes_of(*layer.input_scale));
    return parts;
  }

  std::vector<Tensor> shared() const override {
    const Shape shape = {set_.layout.codebooks, kCodebookEntries};
    std::vector<Tensor> tensors = {
        {{std::string(kWeightCodebooks), DType::i8, shape}, encode_codebooks(set_.weights)}};
    if (inputs_ != InputScales::none) {
      tensors.push_back({{std::string(kActivationCodebooks), DType::i8, shape},
                         encode_codebooks(set_.activations)});
    }
    return tensors;
  }

  nlohmann::ordered_json quantization_config(const ModelConfig& config,
                                             const WeightLayouts& layers) const override {
    NeapConfig words{.layout = set_.layout, .inputs = inputs_, .ignore = {}};
    for (const std::string& module : linear_modules(config)) {
      if (!layers.contains(module)) words.ignore.push_back(module);
    }
    return words.to_json();
  }

 private:
  CodebookSet set_;
  InputScales inputs_;
};

}  // namespace

std::unique_ptr<const OutputFormat> make_neap_format(CodebookSet set, InputScales inputs) {
  return std::make_unique<NeapFormat>(std::move(set), inputs);
}

}  // namespace neap
