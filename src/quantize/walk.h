// The walk over a model's blocks: statistics of a stage, its layers solved, the streams onward. Where
// model, calibration and solver meet. One block is in memory at a time, and for each grid that is decided on a block of
// its own.
#pragma once

#include <exception>
#include <functional>
#include <span>
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

// One of the grids that a walk decides for: what goes in, and what comes of it.
struct WalkTask {
  const Plan& plan;
  WalkOptions options;
  LayerSink sink;
  PhaseClock& clock;
  std::vector<LayerRecord> records = {};
  std::exception_ptr failure = {};  // why this one stopped; the others went on
};

// Whether tasks with these recipes can share a full-precision stream: one set of streams carries both.
bool walk_alike(const Recipe& a, const Recipe& b);

// As walk() below for every task, in one pass over the blocks: each result is what the task alone would give. What they
// share is the reading of blocks and X; statistics depend on X~, which depends on the grid. All are walk_alike. An Error that is
// not a cancellation ends its task alone. Phases that are shared are booked to the first.
void walk_together(const Weights& weights, const TokenWindows& windows, std::span<WalkTask> tasks);

// Quantizes every layer of `plan` (with Method::rtn, for the sake of the input scales alone), calling `sink` from this thread. Returns one record a layer, in the
// walk's order. Throws what Streams throws, and Error(cancelled).
std::vector<LayerRecord> walk(const Weights& weights, const Plan& plan, const TokenWindows& windows,
                              const WalkOptions& options, const LayerSink& sink, PhaseClock& clock);

}  // namespace neap
