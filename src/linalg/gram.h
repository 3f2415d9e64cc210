// Second moments of a layer's inputs, at matrix-product speed, the same bytes at any thread count and
// for any split of the windows over machines.
#pragma once

#include <cstddef>
#include <vector>

#include "neap/matrix.h"
#include "neap/model.h"

namespace neap {

// What a layer's least squares need of its inputs.
struct GramPair {
  Matrix<float> gram;   // H = X~'X~, (in, in), symmetric
  Matrix<float> drift;  // D = X~'E, (in, columns of E); empty: no reference stream
};

// Sums H and D over windows, where E is by how much the reference is ahead: X - X~, so that D = C - H
// with C = X~'X, and whatever else is to be predicted from X~. Chunk c of the `kChunks` is windows
// [c windows / kChunks, (c + 1) windows / kChunks); inside a chunk windows are added in order, and
// chunks in a balanced binary tree by index.
// The drift is summed rather than C: it is small, so that bf16 rounding costs it little, and C would
// lose it again to cancellation.
//
// Memory: at most 4 pairs at once (the chunk being summed and the finished nodes of the
// tree that wait for a sibling), and two windows in the precision of the products.
class GramAccumulator {
 public:
  static constexpr std::size_t kChunks = 8;

  // inputs: in. windows: how many there are in all, on all machines. ahead: columns of E; 0: no drift.
  // Precision of the products: f32, or bf16 with fp32 sums (X~ and E rounded to nearest even; f32 is
  // used where the CPU has no bf16 products, see used()).
  GramAccumulator(std::size_t inputs, std::size_t ahead, std::size_t windows, Precision precision);

  // Adds window `index`; indices ascend. runtime: X~, (tokens, in), any number of tokens; ahead: E,
  // (tokens, columns of E), empty if there are none. Values must be finite. Parallel inside.
  void add(std::size_t index, MatrixView<const float> runtime, MatrixView<const float> ahead);

  // Takes over the sums of `next`, whose windows all come after this one's. The bytes are those of one
  // accumulator fed with all windows if both begin and end at borders of chunks.
  void merge(GramAccumulator&& next);

  // The sums, mirrored to full matrices. Leaves this accumulator empty.
  GramPair finish();

  Precision used() const { return precision_; }

 private:
  // Sum over chunks first .. last; of gram only the tiles on and above the diagonal.
  struct Node {
    std::size_t first, last;
    GramPair sum;
  };
  void join(std::size_t open);

  std::size_t inputs_, ahead_, windows_;
  Precision precision_;
  std::size_t begin_ = 0, end_ = 0;  // windows added lie in [begin, end)
  std::vector<Node> nodes_;          // ascending, disjoint; the last one may be growing
};

}  // namespace neap
