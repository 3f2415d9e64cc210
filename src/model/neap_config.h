// What config.json's `quantization_config` says in Neap's own container of LO-BCQ weights. The
// container, byte by byte: docs/formats/neap.md.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "neap/codebooks.h"

namespace neap {

// How the inputs of the modules are meant to be encoded.
enum class InputScales {
  none,     // not at all: 16-bit activations
  fixed,    // with a scale per module that calibration found ("static")
  dynamic,  // with a scale per token
};

struct NeapConfig {
  LobcqLayout layout;
  InputScales inputs = InputScales::none;
  std::vector<std::string> ignore;  // linear modules that are stored dense

  // Every linear module that `ignore` does not name is stored in LO-BCQ's format.
  bool packs(std::string_view module) const;

  // From the text of a config.json; nothing where that has another quant_method or none. Strict:
  // throws Error(format) for a missing or ill-typed key, a layout that is none, a head that is not
  // ignored; Error(unsupported) for another version, scheme or key.
  static std::optional<NeapConfig> from_config(std::string_view config_json,
                                               const std::string& file);
  nlohmann::ordered_json to_json() const;
};

inline constexpr std::string_view kWeightCodebooks = "lobcq.weight_codebooks";
inline constexpr std::string_view kActivationCodebooks = "lobcq.activation_codebooks";
inline constexpr std::string_view kInputScale = ".input_global_scale";

}  // namespace neap
