// The joint objective ||R (w^ - t)||^2 of the rows of a tile.
#pragma once

#include <vector>

#include "neap/matrix.h"
#include "solve/system.h"

namespace neap {

// error: (positions, rows), t - w^. One value per row: products and sums in fp64, over the fp32 factor.
// Runs on the calling thread.
std::vector<double> evaluate_objective(const LayerSystem& system, MatrixView<const float> error);
// The same from fp32 products, summed in fp64, at twice the speed: good to about 1e-6, which is not enough
// to tell whether a small step was downhill.
std::vector<double> estimate_objective(const LayerSystem& system, MatrixView<const float> error);

// ||X~ v'||^2 summed over rows v: the metric A without its ridge, from estimate_objective; never negative.
// rows: (positions, rows).
double output_energy(const LayerSystem& system, MatrixView<const float> rows);

}  // namespace neap
