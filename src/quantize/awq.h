// AWQ end to end: scales found per block on the full-precision activations, folded into the norms and
// layers that feed each input, then clipped and rounded. The searches are solve/awq.h's.
#pragma once

#include "quantize/walk.h"

namespace neap {

// As walk(). A norm or layer that a scale is folded into goes to the sink changed: norms (and biases of
// folded layers) through sink.dense. A scale is folded only where every layer involved is quantized, and
// into v_proj only where each of its heads feeds one head of o_proj, as the published code does.
std::vector<LayerRecord> walk_awq(const Weights& weights, const Plan& plan, const TokenWindows& windows,
                                  const WalkOptions& options, const LayerSink& sink, PhaseClock& clock);

}  // namespace neap
