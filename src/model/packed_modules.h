// Which modules of a checkpoint are stored packed by compressed-tensors, and on which grid: what
// config.json's `quantization_config` says. The packed tensors themselves: codec/pack_quantized.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace neap {

struct PackedGrid {
  int bits = 4;            // 1 .. 8
  std::int64_t group = 0;  // inputs that share a scale; 0: the whole row
  bool symmetric = true;

  bool operator==(const PackedGrid&) const = default;
};

class PackedModules {
 public:
  // From the text of a config.json; without `quantization_config` nothing is packed. Throws
  // Error(unsupported) naming the key for another quant_method or format, and for what would change
  // the result (quantized activations or cache, transforms, scattered groups); Error(format).
  static PackedModules from_config(std::string_view config_json, const std::string& file);

  // The grid of a linear layer, by its module's name ("model.layers.0.mlp.up_proj"); null if it is
  // stored dense. As compressed-tensors does: nothing that `ignore` matches; else exact names come
  // before regular expressions ("re:...", matched from the start), and those before "Linear".
  const PackedGrid* find(const std::string& module) const;

 private:
  struct Target {
    std::string pattern;
    PackedGrid grid;
  };
  std::string file_;
  std::vector<Target> targets_;  // in the order in which they are tried
  std::vector<std::string> ignore_;
};

}  // namespace neap
