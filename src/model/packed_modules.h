// Which modules of a checkpoint are stored packed, by compressed-tensors or by GPTQ's programs, on which grid, and
// what their inputs are meant to be rounded to: what config.json's `quantization_config` says. The packed tensors
// themselves: codec/pack_quantized.h, codec/fp4_pack.h, codec/gptq_pack.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "codec/block_scaled.h"
#include "codec/gptq_pack.h"
#include "neap/codec.h"

namespace neap {

struct PackedGrid {
  int bits = 4;            // 1 .. 8
  std::int64_t group = 0;  // inputs that share a scale; 0: the whole row
  bool symmetric = true;

  bool operator==(const PackedGrid&) const = default;
};

struct GptqGrid {
  PackedGrid grid;
  GptqVersion version = GptqVersion::v1;

  GroupLayout layout() const {
    return {.bits = grid.bits, .group = grid.group, .symmetric = grid.symmetric, .scale_type = DType::f16};
  }
  bool operator==(const GptqGrid&) const = default;
};

struct PackedModule {
  std::variant<PackedGrid, Fp4Layout, GptqGrid> weights;
  // Without the global scale of NVFP4, which is a tensor (MODULE.input_global_scale).
  std::optional<BlockScaledInputs> inputs = {};

  bool operator==(const PackedModule&) const = default;
};

class PackedModules {
 public:
  // From the text of a config.json; without `quantization_config` nothing is packed. Throws
  // Error(unsupported) naming the key for another quant_method or format, and for what would change
  // the result (activations in other formats than BlockScaled's, a quantized cache, transforms,
  // scattered groups); Error(format). Of GPTQ, `dynamic` is honoured.
  static PackedModules from_config(std::string_view config_json, const std::string& file);

  // How a linear layer is stored, by its module's name ("model.layers.0.mlp.up_proj"); null if it is
  // stored dense. As compressed-tensors does: nothing that `ignore` matches; else exact names come
  // before regular expressions ("re:...", matched from the start), and those before "Linear".
  const PackedModule* find(const std::string& module) const;

 private:
  struct Target {
    std::string pattern;
    std::optional<PackedModule> module;  // nothing: what matches is stored dense
  };
  static PackedModules from_gptq(std::string_view config_json, const std::string& file);

  std::string file_;
  std::vector<Target> targets_;  // in the order in which they are tried
  std::vector<std::string> ignore_;
};

}  // namespace neap
