#include "export/gguf_mix.h"

#include <charconv>

#include "neap/check.h"

namespace neap {
namespace {

constexpr std::string_view kLayerPrefix = "model.layers.";

std::int64_t layer_of(const std::string& module) {
  std::int64_t layer = -1;
  if (module.starts_with(kLayerPrefix)) {
    std::from_chars(module.data() + kLayerPrefix.size(), module.data() + module.size(), layer);
  }
  return layer;
}

}  // namespace

DType mixed_type(DType scheme, const std::string& module, const ModelConfig& config, bool calibrated) {
  const bool makes_logits = module == "lm_head" || (module == "model.embed_tokens" && config.tied_head);
  if (makes_logits) {
    const bool whole_blocks = config.hidden % static_cast<std::int64_t>(block_elements(scheme)) == 0;
    return whole_blocks && scheme != DType::q8_0 ? DType::q6_k : DType::q8_0;
  }
  // The first ffn_down have few large inputs; with statistics of them a minimum is worth its bits.
  if (calibrated && module.ends_with(".down_proj") && layer_of(module) < config.layers / 8) {
    if (scheme == DType::q4_0) return DType::q4_1;
    if (scheme == DType::q5_0) return DType::q5_1;
  }
  if (scheme == DType::iq4_nl) {
    const bool shared_values = module.ends_with(".v_proj") && config.heads >= 4 * config.kv_heads;
    const bool first_down = !calibrated && module.ends_with(".down_proj") && layer_of(module) < config.layers / 8;
    if (shared_values || first_down) return DType::q5_1;
  }
  return scheme;
}

std::optional<DType> fallback_type(DType type, std::int64_t cols) {
  if (type == DType::q6_k) type = DType::q8_0;
  if (cols % static_cast<std::int64_t>(block_elements(type)) == 0) return type;
  return {};
}

std::uint32_t gguf_file_type(DType scheme) {
  switch (scheme) {
    case DType::q4_0: return 2;
    case DType::q4_1: return 3;
    case DType::q8_0: return 7;
    case DType::q5_0: return 8;
    case DType::q5_1: return 9;
    case DType::iq4_nl: return 25;
    default: NEAP_CHECK(!"a scheme of GGUF"); return 0;
  }
}

}  // namespace neap
