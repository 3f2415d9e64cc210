// One layer's weights onto its grid, whichever that is: by the recipe's solver, or rounded.
#pragma once

#include <string>

#include "quantize/timing.h"
#include "quantize/walk.h"
#include "solve/system.h"

namespace neap {

// How the recipe wants a layer's system made.
SystemOptions system_options(const Recipe& recipe);

struct LayerDecision {
  QuantizedWeight weight;
  LayerRecord record;
};

// By the solver of `layout`, on a system of system_options. global_scale: NVFP4's. Times are booked to `clock`. Throws
// Error(data) naming module, row and column of a weight that is not finite.
LayerDecision solve_on(const WeightLayout& layout, const LayerSystem& system, const std::string& module, const Matrix<float>& weight,
                       const WalkOptions& options, float global_scale, PhaseClock& clock);

// To the nearest point; likewise.
LayerDecision round_on(const WeightLayout& layout, const std::string& module, const Matrix<float>& weight, const WalkOptions& options,
                       float global_scale, PhaseClock& clock);

// What is known of a layer that no solver has reported on.
LayerRecord plain_record(const std::string& module, const QuantizedWeight& weight);

}  // namespace neap
