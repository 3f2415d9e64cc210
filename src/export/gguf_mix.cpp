#include "export/gguf_mix.h"

#include <charconv>

#include "model/architecture.h"
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

bool divides(DType type, std::int64_t cols) { return cols % static_cast<std::int64_t>(block_elements(type)) == 0; }

// The first and last eighth of the layers, and every third between.
bool takes_more_bits(std::int64_t layer, std::int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

// What llama.cpp takes for a 70B model: its values are an eighth of its queries, and more bits cost little.
bool is_70b(const ModelConfig& config) {
  if (config.layers != 80) return false;
  const Architecture* family = architecture_of_family(config.family);
  NEAP_CHECK(family);
  return family->gguf == "qwen2" || (family->gguf == "llama" && config.heads != config.kv_heads);
}

DType value_type(GgufMix mix, const ModelConfig& config, std::int64_t layer) {
  const bool shared = config.heads >= 4 * config.kv_heads;
  switch (mix) {
    case GgufMix::q2_k: return shared ? DType::q4_k : DType::q3_k;
    case GgufMix::q2_k_s: return shared ? DType::q4_k : DType::q2_k;
    case GgufMix::q3_k_m: return layer < 2 ? DType::q5_k : DType::q4_k;
    case GgufMix::q3_k_l: return DType::q5_k;
    case GgufMix::q4_k_s: return layer < 4 ? DType::q5_k : DType::q4_k;
    case GgufMix::q4_k_m: return takes_more_bits(layer, config.layers) ? DType::q6_k : DType::q4_k;
    case GgufMix::q5_k_m: return takes_more_bits(layer, config.layers) ? DType::q6_k : DType::q5_k;
    case GgufMix::iq4_nl: return shared ? DType::q5_k : DType::iq4_nl;
    default: return base_type(mix);
  }
}

// The first ffn_down have few large inputs.
DType down_type(GgufMix mix, std::int64_t layers, std::int64_t layer, bool calibrated) {
  const bool early = layer < layers / 8;
  switch (mix) {
    case GgufMix::q2_k: return DType::q3_k;
    case GgufMix::q2_k_s: return early ? DType::q4_k : DType::q2_k;
    case GgufMix::q3_k_m: return layer < layers / 16 ? DType::q5_k : DType::q4_k;
    case GgufMix::q3_k_l: return DType::q5_k;
    case GgufMix::q4_k_s: return early ? DType::q5_k : DType::q4_k;
    case GgufMix::q4_k_m: return takes_more_bits(layer, layers) ? DType::q6_k : DType::q4_k;
    case GgufMix::q5_k_m: return takes_more_bits(layer, layers) ? DType::q6_k : DType::q5_k;
    case GgufMix::iq4_nl: return early && !calibrated ? DType::q5_k : DType::iq4_nl;
    // With statistics of them a minimum is worth its bits.
    case GgufMix::q4_0: return early && calibrated ? DType::q4_1 : DType::q4_0;
    case GgufMix::q5_0: return early && calibrated ? DType::q5_1 : DType::q5_0;
    default: return base_type(mix);
  }
}

DType attention_output_type(GgufMix mix) {
  switch (mix) {
    case GgufMix::q2_k: return DType::q3_k;
    case GgufMix::q3_k_m: return DType::q4_k;
    case GgufMix::q3_k_l: return DType::q5_k;
    default: return base_type(mix);
  }
}

}  // namespace

DType base_type(GgufMix mix) {
  switch (mix) {
    case GgufMix::q4_0: return DType::q4_0;
    case GgufMix::q4_1: return DType::q4_1;
    case GgufMix::q5_0: return DType::q5_0;
    case GgufMix::q5_1: return DType::q5_1;
    case GgufMix::q8_0: return DType::q8_0;
    case GgufMix::q2_k:
    case GgufMix::q2_k_s: return DType::q2_k;
    case GgufMix::q3_k_s:
    case GgufMix::q3_k_m:
    case GgufMix::q3_k_l: return DType::q3_k;
    case GgufMix::q4_k_s:
    case GgufMix::q4_k_m: return DType::q4_k;
    case GgufMix::q5_k_s:
    case GgufMix::q5_k_m: return DType::q5_k;
    case GgufMix::q6_k: return DType::q6_k;
    case GgufMix::iq4_nl: return DType::iq4_nl;
    case GgufMix::mxfp4: return DType::mxfp4;
    case GgufMix::nvfp4: return DType::nvfp4;
  }
  NEAP_CHECK(!"a mix of GGUF");
  return DType::q4_0;
}

GgufMix simple_mix(DType type) {
  for (const GgufMix mix : {GgufMix::q4_0, GgufMix::q4_1, GgufMix::q5_0, GgufMix::q5_1, GgufMix::q8_0, GgufMix::iq4_nl, GgufMix::mxfp4}) {
    if (base_type(mix) == type) return mix;
  }
  NEAP_CHECK(!"a type of blocks of 32");
  return GgufMix::q4_0;
}

DType mixed_type(GgufMix mix, const std::string& module, const ModelConfig& config, bool calibrated) {
  const DType base = base_type(mix);
  // llama-quantize writes MXFP4 for experts alone, and Q8_0 for all else.
  if ((mix == GgufMix::mxfp4 || mix == GgufMix::nvfp4) && (module == "lm_head" || module == "model.embed_tokens")) return DType::q8_0;
  if (module == "lm_head" || (module == "model.embed_tokens" && config.tied_head)) {
    return divides(base, config.hidden) && base != DType::q8_0 ? DType::q6_k : DType::q8_0;
  }
  const std::int64_t layer = layer_of(module);
  if (module.ends_with(".down_proj")) return down_type(mix, config.layers, layer, calibrated);
  if (module.ends_with(".o_proj")) return attention_output_type(mix);
  if (!module.ends_with(".v_proj")) return base;
  const DType type = value_type(mix, config, layer);
  return is_70b(config) && (type == DType::q3_k || type == DType::q4_k) ? DType::q5_k : type;
}

std::optional<DType> fallback_type(DType type, std::int64_t cols) {
  if (!divides(type, cols)) {
    switch (type) {
      case DType::q2_k:
      case DType::q3_k: type = DType::q4_0; break;
      case DType::q4_k: type = DType::q5_0; break;
      case DType::q5_k: type = DType::q5_1; break;
      case DType::q6_k: type = DType::q8_0; break;
      default: break;
    }
  }
  if (divides(type, cols)) return type;
  return {};
}

}  // namespace neap
