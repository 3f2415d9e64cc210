// What every packed layout of a QuantizedTensor leans on.
#pragma once

#include "neap/codec.h"

namespace neap {

// NEAP_CHECKs every promise of QuantizedTensor: sizes, codes and zeros below 2^bits, scales finite,
// positive and exact in layout.scale_type.
void check_invariants(const QuantizedTensor& tensor);

// Whether rounding `value` to `type` (f16, bf16, f32) and back gives the same float.
bool exact_in(float value, DType type);

}  // namespace neap
