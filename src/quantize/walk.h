// The walk over a model's blocks: statistics of a stage, its layers solved, both streams onward. Where
// model, calibration and solver meet. One block is in memory at a time.
#pragma once

#include <functional>
#include <string>

#include "calib/streams.h"
#include "export/output_format.h"
#include "model/weights.h"
#include "neap/quantize.h"
#include "quantize/importance.h"
#include "quantize/plan.h"
#include "quantize/timing.h"

namespace neap {

// Where decided layers go, in the order of the walk.
struct LayerSink {
  std::function<void(const std::string& module, const DecidedLayer& layer)> quantized;
  // A vector or matrix that the walk changed without quantizing it (AWQ's folded norms).
  std::function<void(const std::string& tensor, MatrixView<const float> values)> dense;
};

struct WalkOptions {
  Recipe recipe;
  const CodebookSet* codebooks = nullptr;  // of LO-BCQ
  bool input_scales = false;               // each layer comes with a scale for its inputs
  const Importances* importances = nullptr;  // what round_all weighs errors by
  std::uint64_t activation_memory = 0;
  std::string scratch;
  ProgressCallback progress;
};

// Quantizes every layer of `plan` (with Method::rtn, for the sake of the input scales alone), calling `sink` from this thread. Returns one record a layer, in the
// walk's order. Throws what Streams throws, and Error(cancelled).
std::vector<LayerRecord> walk(const Weights& weights, const Plan& plan, const TokenWindows& windows,
                              const WalkOptions& options, const LayerSink& sink, PhaseClock& clock);

// What is known of a layer that no solver has reported on.
LayerRecord plain_record(const std::string& module, const QuantizedWeight& weight);

// Rounding to nearest, under scales that suit options.importances: no calibration, no streams, no input scales.
std::vector<LayerRecord> round_all(const Weights& weights, const Plan& plan, const WalkOptions& options,
                                   const LayerSink& sink, PhaseClock& clock);

}  // namespace neap
