#include "export/engines.h"

#include <algorithm>
#include <array>
#include <functional>
#include <optional>

#include "export/dense_tensors.h"
#include "model/architecture.h"

namespace neap {
namespace {

using LayerLayouts = std::map<std::string, GroupLayout>;

// One sentence about the first module that does not suit, or nothing.
using Objection = std::optional<std::string>;

bool packs_alike_in_all_versions(int bits) { return 32 % bits == 0; }

Objection first_objection(
    const LayerLayouts& layers,
    const std::function<Objection(const std::string&, const GroupLayout&)>& ask) {
  for (const auto& [module, layout] : layers) {
    if (const Objection objection = ask(module, layout)) return module + ": " + *objection;
  }
  return {};
}

// q, k, v and gate, up become one matrix each.
Objection joint_objection(const ModelConfig& config, const LayerLayouts& layers) {
  static const std::vector<std::vector<Role>> kJoint = {{Role::q, Role::k, Role::v},
                                                        {Role::gate, Role::up}};
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    for (const auto& roles : kJoint) {
      const auto first = layers.find(module_name(layer, roles[0]));
      for (const Role role : roles) {
        const auto other = layers.find(module_name(layer, role));
        const bool both = first != layers.end() && other != layers.end();
        const bool alike = both ? first->second == other->second : first == other;
        if (!alike) {
          return module_name(layer, role) + ": has another layout than " +
                 module_name(layer, roles[0]) + ", with which it is joined";
        }
      }
    }
  }
  return {};
}

// The kernels of both engines for 4 and 8 bits: Marlin's groups and least tile.
Objection group_objection(const GroupLayout& layout) {
  const std::array<std::int64_t, 4> groups = {0, 32, 64, 128};
  if (std::find(groups.begin(), groups.end(), layout.group) != groups.end()) return {};
  return "groups of " + std::to_string(layout.group) + " have no kernel (32, 64, 128, whole rows)";
}

Objection tile_objection(const Shape& shape) {
  const auto divides = [](const char* what, std::int64_t size, std::int64_t by) {
    return std::to_string(size) + " " + what + " are no multiple of " + std::to_string(by);
  };
  if (shape[0] % 64 != 0) return divides("outputs", shape[0], 64);
  if (shape[1] % 128 != 0) return divides("inputs", shape[1], 128);
  return {};
}

Objection vllm_objection(const GroupLayout& layout) {
  if (layout.bits == 1) return "1 bit has no kernel";
  const bool old = layout.bits == 4 || layout.bits == 8;
  if (!layout.symmetric && !old) {
    return std::to_string(layout.bits) + " bits are loaded symmetric only (asymmetric: 4 and 8)";
  }
  return old ? group_objection(layout) : Objection{};
}

// What was read: vllm pull requests 46389 (2, 3, 5, 6, 7 bits) and 45295 (Marlin pads its tiles),
// both of the middle of 2026.
EngineVerdict vllm(const ModelConfig& config, const LayerLayouts& layers) {
  bool other_bits = false, padded = false;
  Objection objection = joint_objection(config, layers);
  if (!objection) {
    objection = first_objection(layers, [&](const auto& module, const auto& layout) {
      other_bits |= layout.bits != 4 && layout.bits != 8;
      padded |= tile_objection(linear_shape(config, module)).has_value();
      return vllm_objection(layout);
    });
  }
  if (objection) return {"vLLM", false, *objection};
  if (other_bits)
    return {"vLLM", true, "needs vLLM of July 2026 or later, and a GPU: 4 and 8 bits alone are older"};
  if (padded) return {"vLLM", true, "needs vLLM of July 2026 or later: some sizes are no multiples of 64 x 128"};
  return {"vLLM", true, ""};
}

EngineVerdict sglang(const ModelConfig& config, const LayerLayouts& layers) {
  Objection objection = joint_objection(config, layers);
  if (!objection) {
    objection = first_objection(layers, [&](const auto& module, const auto& layout) -> Objection {
      if (layout.bits != 4 && layout.bits != 8) {
        return std::to_string(layout.bits) + " bits have no kernel (4 and 8 have)";
      }
      if (layout.bits == 8 && !layout.symmetric) return "8 bits have a symmetric kernel only";
      const Objection group = group_objection(layout);
      return group ? group : tile_objection(linear_shape(config, module));
    });
  }
  return {"SGLang", !objection, objection.value_or("a version of 2026")};
}

EngineVerdict transformers(const LayerLayouts& layers) {
  const bool dense = std::any_of(layers.begin(), layers.end(), [](const auto& layer) {
    return !packs_alike_in_all_versions(layer.second.bits);
  });
  return {"transformers", true,
          dense
              ? "with compressed-tensors 0.18 or later (before it, 3, 5, 6 and 7 bits were packed "
                "otherwise)"
              : "with compressed-tensors"};
}

// Its converter dequantizes; `llama-quantize` then rounds again.
EngineVerdict llama_cpp(const LayerLayouts& layers) {
  const auto differs = [&](const auto& layer) {
    const GroupLayout &a = layer.second, &b = layers.begin()->second;
    return a.bits != b.bits || a.group != b.group || a.symmetric != b.symmetric;
  };
  Objection objection;
  if (std::any_of(layers.begin(), layers.end(), differs))
    objection = "reads one layout for all modules";
  if (!objection) {
    objection = first_objection(layers, [](const auto&, const auto& layout) -> Objection {
      if (layout.group == 0) return "whole rows are not read, only groups";
      if (!packs_alike_in_all_versions(layout.bits)) {
        return std::to_string(layout.bits) + " bits are read in the packing of before 2026";
      }
      return {};
    });
  }
  return {"llama.cpp", !objection, objection.value_or("convert_hf_to_gguf.py, which dequantizes")};
}

// What was read, all of 2026: vllm pull requests 31926 and 41664 (MXFP4), 46390 (INT4 activations); sglang
// 34966 and 40022, which find NVFP4 on Blackwell alone; llama.cpp 21095 (NVFP4).
EngineVerdict vllm(BlockScaled format, bool inputs) {
  switch (format) {
    case BlockScaled::nvfp4:
      return {"vLLM", true, inputs ? "on a GPU; W4A4 on Blackwell, weights alone on others" : "on a GPU"};
    case BlockScaled::mxfp4:
      return {"vLLM", true, inputs ? "from May 2026 on, on a GPU; W4A4 on Blackwell" : "from January 2026 on, on a GPU"};
    case BlockScaled::int4: return {"vLLM", true, "needs vLLM of July 2026 or later, and a GPU"};
  }
  return {"vLLM", false, ""};
}

EngineVerdict sglang(BlockScaled format, bool inputs) {
  if (format == BlockScaled::nvfp4 && inputs) return {"SGLang", true, "on Blackwell GPUs"};
  if (format == BlockScaled::nvfp4) return {"SGLang", false, "NVFP4 weights alone have no kernel for these files"};
  return {"SGLang", false, name_of(format) + " has no kernel for these files"};
}

}  // namespace

std::vector<EngineVerdict> engines_for(BlockScaled format, bool inputs) {
  const bool nvfp4 = format == BlockScaled::nvfp4;
  const char* transformers = nvfp4 ? "with compressed-tensors 0.15 or later; weights are rounded to bf16"
                                   : "with compressed-tensors 0.15 or later";
  return {{"Neap", true, ""},
          {"transformers", true, transformers},
          vllm(format, inputs),
          sglang(format, inputs),
          {"llama.cpp", nvfp4, nvfp4 ? "convert_hf_to_gguf.py of April 2026 or later" : "its converter reads NVFP4 alone of the formats with 4-bit activations"}};
}

// What was read: vllm's gptq.py and gptq_marlin.py and llama.cpp's conversion of GPTQ, both of 2026.
std::vector<EngineVerdict> engines_for_gptq(const LayerLayouts& layers, GptqVersion version) {
  NEAP_CHECK(!layers.empty());
  const auto any = [&](auto&& test) { return std::any_of(layers.begin(), layers.end(), [&](const auto& l) { return test(l.second); }); };
  const bool slow = any([](const GroupLayout& l) { return !l.symmetric || (l.bits != 4 && l.bits != 8); });
  const bool three = any([](const GroupLayout& l) { return l.bits == 3; });
  const bool second = version == GptqVersion::v2;
  const std::string gpu = slow ? "on a GPU, on a slow path" : "on a GPU";
  return {{"Neap", true, ""},
          {"transformers", true, "with GPTQModel"},
          {"vLLM", !three, three ? "3 bits have no kernel for these files" : gpu},
          {"SGLang", !three, three ? "3 bits have no kernel for these files" : gpu},
          {"llama.cpp", !three && !second, second ? "its converter reads version 1" : three ? "its converter has no 3 bits" : "convert_hf_to_gguf.py, which dequantizes"}};
}

// What was read: llama.cpp 15091 (MXFP4), 19769 and 21095 (NVFP4 and its scales of matrices).
std::vector<EngineVerdict> engines_for_gguf(DType type) {
  const char* since = type == DType::mxfp4 ? "from August 2025 on" : type == DType::nvfp4 ? "from April 2026 on" : "";
  return {{"llama.cpp and what is built on it", true, since},
          {"Neap", true, ""},
          {"vLLM, SGLang", false, "GGUF is not what they are made for: choose an integer grid"}};
}

std::vector<EngineVerdict> engines_for(const ModelConfig& config, const LayerLayouts& layers) {
  NEAP_CHECK(!layers.empty());
  return {{"Neap", true, ""},
          transformers(layers),
          vllm(config, layers),
          sglang(config, layers),
          llama_cpp(layers)};
}

}  // namespace neap
