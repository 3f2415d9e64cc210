// Extended Babai and Klein decoding: from the last position to the first, each coordinate goes to the
// nearest grid point inside its box (the greedy path), or to one drawn around it (Klein's paths), given
// those already decided.
#pragma once

#include <cstdint>
#include <vector>

#include "neap/matrix.h"
#include "solve/system.h"
#include "solve/tile.h"

namespace neap {

// What Klein's paths draw from.
struct PathSampler {
  int paths = 0;           // beside the greedy one
  double rho = 0;          // of klein_rho
  std::uint64_t key = 0;   // of the tensor
  std::size_t first_row = 0;  // of the tile, in the layer
};

struct WalkResult {
  Matrix<std::uint8_t> codes;         // (positions, rows): of each row's best path
  std::vector<double> greedy_scores;  // per row: ||R (w^ - t)||^2 of the greedy path, from fp32 residuals
  std::vector<int> winner;            // per row: 0 greedy, k Klein's k-th
  std::vector<std::int64_t> sampled;  // per path of Klein's: codes that differ from greedy
};

// target: (positions, rows). The winner of a row is the path of least ||R (w^ - t)||^2; a sampled path must
// beat the greedy one by more than rounding error. Runs on the calling thread.
WalkResult walk_tile(const LayerSystem& system, const TileGrid& grid, MatrixView<const float> target,
                     const PathSampler& sampler);

}  // namespace neap
