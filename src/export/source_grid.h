// What a module of a quantized checkpoint is multiples of, whatever format it is stored in.
#pragma once

#include <optional>
#include <string>

#include "codec/regrid.h"
#include "model/weights.h"

namespace neap {

struct SourceGrid {
  Multiples multiples;             // rows in Hugging Face's order
  int bits = 0;                    // that hold the integers, with a zero point perhaps
  DType scale_type = DType::f16;   // in which the scales are exact
  std::optional<Fp4Tensor> mxfp4 = {};  // the weights themselves, where GGUF has a block type for them
  std::string words;               // "4 bits, groups of 64, symmetric", "GGUF Q4_1"
};

// Of a layer in a packed format or a block type of GGUF; nothing for a dense one. Where a type has no scale whose
// multiples its values are (k-quants), or the model's own type has not the scales, `multiples` is empty.
std::optional<SourceGrid> source_grid(const Weights& weights, std::int64_t layer, Role role);
// The same of a head that is packed in a Hugging Face directory.
std::optional<SourceGrid> source_grid_of_head(const Weights& weights);

}  // namespace neap
