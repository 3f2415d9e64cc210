// An importance matrix as an objective: the errors of a layer's weights count as much as the squares of their inputs.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/weights.h"
#include "neap/calibration.h"
#include "quantize/plan.h"

namespace neap {

struct Importances {
  // By module: how much a squared error of the weights of each input counts, in units of no matter.
  std::map<std::string, std::vector<float>> modules;
  TokenWindows::Source source;  // the file
  std::int64_t windows = 0;     // that it was computed on; 0: the file does not say
};

// Of every layer of the plan: the diagonal of H, the mean square of each input, plus `ridge` times its mean. Throws as
// read_imatrix does; Error(format) naming an entry that the file lacks, that has not as many values as the layer
// inputs, or that is of no weight of this model.
Importances read_importances(const std::string& file, const Plan& plan, const ModelConfig& config, double ridge);

}  // namespace neap
