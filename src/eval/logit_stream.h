// Windows in, tiles of logits out, for one model or several in lockstep: nobody ever holds more than
// a tile of rows of logits.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "neap/eval.h"
#include "neap/matrix.h"
#include "neap/model.h"

namespace neap {

// The logits after windows[window].tokens[position - 1] are a model's guess at tokens[position].
struct Prediction {
  std::size_t window = 0, position = 0;
  TokenId token = 0;  // what stands at `position`
};

// logits[m]: (predictions.size(), vocabulary), row i for predictions[i], from models[m].
using TileBody = std::function<void(std::span<const Prediction> predictions,
                                    std::span<const MatrixView<const float>> logits)>;

// Calls body on the calling thread for every predicted token, in the order of the windows.
// Neighbouring windows run together, the shorter ones padded at their ends, which causal attention
// does not see: windows of similar length should stand side by side. The models have one vocabulary.
void stream_logits(std::span<LanguageModel* const> models, const std::vector<EvalWindow>& windows,
                   const EvalOptions& options, const TileBody& body);

}  // namespace neap
