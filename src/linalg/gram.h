// Second moments of a layer's inputs, at matrix-product speed, the same bytes at any thread count and
// for any split of the windows over machines.
#pragma once

#include <cstddef>
#include <vector>

#include "neap/matrix.h"
#include "neap/model.h"

namespace neap {

// What a layer's least squares need of its inputs; both (in, in).
struct GramPair {
  Matrix<float> gram;   // H = X~'X~, symmetric
  Matrix<float> drift;  // D = X~'(X - X~) = C - H, where C = X~'X; empty: no reference stream
};

// Sums H and D over windows. Chunk c of the `kChunks` is windows [c windows / kChunks, (c + 1) windows /
// kChunks); inside a chunk windows are added in order, and chunks in a balanced binary tree by index.
// The drift is summed rather than C: it is small, so that bf16 rounding costs it little, and C would
// lose it again to cancellation.
//
// Memory: at most 4 pairs of (in, in) at once (the chunk being summed and the finished nodes of the
// tree that wait for a sibling), and two windows in the precision of the products.
class GramAccumulator {
 public:
  static constexpr std::size_t kChunks = 8;

  // inputs: in. windows: how many there are in all, on all machines. `drift`: sum D too.
  // Precision of the products: f32, or bf16 with fp32 sums (X~, and the fp32 difference X - X~, rounded
  // to nearest even; f32 is used where the CPU has no bf16 products, see used()).
  GramAccumulator(std::size_t inputs, std::size_t windows, bool drift, Precision precision);

  // Adds window `index`; indices ascend. runtime, reference: (tokens, in), any number of tokens;
  // reference is empty without drift. Values must be finite. Parallel inside.
  void add(std::size_t index, MatrixView<const float> runtime, MatrixView<const float> reference);

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

  std::size_t inputs_, windows_;
  bool drift_;
  Precision precision_;
  std::size_t begin_ = 0, end_ = 0;  // windows added lie in [begin, end)
  std::vector<Node> nodes_;          // ascending, disjoint; the last one may be growing
};

}  // namespace neap
