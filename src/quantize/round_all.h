// Rounding a model, which asks for no calibration: no streams, one matrix in memory at a time.
#pragma once

#include "quantize/walk.h"

namespace neap {

// To nearest, under scales that suit options.importances: no input scales. Calls `sink` from this thread; returns one record a layer, in the
// walk's order. Throws Error(data) naming module, row and column of a weight that is not finite, and Error(cancelled).
std::vector<LayerRecord> round_all(const Weights& weights, const Plan& plan, const WalkOptions& options,
                                   const LayerSink& sink, PhaseClock& clock);

}  // namespace neap
