// The least squares that all layers reading the same inputs share: A = H + lambda^2 I in the order of
// decision, its factor, and the operator that takes a weight to its target.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "neap/matrix.h"

namespace neap {

// In which order a row's inputs are decided. Groups stay those of the stored layout.
enum class Order {
  last_to_first,  // as the OJBKQ paper has it
  first_to_last,  // as GPTQ has it
  gram_diagonal,  // the input of largest H_ii first; ties: the later input first
};

struct SystemOptions {
  double target_mix = 0.6;  // mu in [0, 1]; 1 needs no drift
  double ridge = 0.05;      // lambda^2 over the mean of H's diagonal, >= 0
  Order order = Order::gram_diagonal;
  // Inputs that the order keeps together, from multiples of this on; with gram_diagonal the block of the
  // largest sum of H_ii comes first, and in it the input of the largest H_ii.
  std::size_t block = 1;
  // The published rule of GPTAQ (solve/gptaq.h) instead of the joint target: needs a drift and
  // target_mix 1, and solves by one greedy walk whatever SolveOptions say of paths and descent.
  bool masked_target = false;
};

struct SystemReport {
  double damping = 0;           // lambda^2 that was added
  double relative_damping = 0;  // the same over the mean of H's diagonal; 0 where that mean is 0
  int attempts = 0;             // factorizations tried; more than 1: `ridge` was too small, and was raised
  std::int64_t dead_inputs = 0;       // H_ii = 0
  std::int64_t near_dead_inputs = 0;  // 0 < H_ii <= damping
  double seconds = 0, flops = 0;
};

// "Position" is the place in the order, "input" the column of the weight: position p holds input
// input_at(p), and the last position is decided first.
class LayerSystem {
 public:
  // gram: H (n, n), symmetric. drift: D = X~'E (n, n or more), or empty: target_mix is then taken as 1.
  // Its first n columns are those of E = X - X~; column n + i, if there, is what row i of the weight shall
  // make up for besides (for layers that add to a residual stream r: X~'(r - r~)). The
  // drift is looked at, not copied, and must outlive this. gram may go. Memory: 2 n^2 floats,
  // 3 n^2 with a masked target.
  // Where A is not numerically positive definite the ridge grows tenfold until it is, which
  // report() tells. Throws Error(data) where H or D is not finite, Error(argument) for options out of
  // range. Same bits at any thread count.
  LayerSystem(MatrixView<const float> gram, MatrixView<const float> drift,
              const SystemOptions& options);

  std::size_t inputs() const { return order_.size(); }
  const SystemReport& report() const { return report_; }
  const SystemOptions& options() const { return options_; }
  const std::vector<std::uint32_t>& input_at() const { return order_; }

  // A, both triangles, by position.
  MatrixView<const float> metric() const { return metric_; }
  // N, unit upper triangular, of A = N' diag(pivots) N, by position. Only what lies above the diagonal
  // is meant.
  MatrixView<const float> factor() const { return factor_; }
  // r_ii^2, n values, positive.
  const std::vector<float>& pivots() const { return pivots_; }
  // By input: 1 / (A^-1)_ii, what a unit error of this input costs when all others, free of any grid,
  // make up for it as well as they can.
  const std::vector<float>& conditional_gram() const { return conditional_gram_; }
  // By input: the weight of its squared error in a search for scales. In the walk such an error costs something between
  // 1 / (A^-1)_ii (all others make up for it) and A_ii (none does); this is the geometric mean of the two.
  std::vector<float> importance() const;
  // By position: H_ii above the damping.
  const std::vector<std::uint8_t>& live() const { return live_; }

  // GPTAQ's correction by position, strictly lower triangular; empty without masked_target.
  MatrixView<const float> masked_correction() const { return masked_correction_; }

  // Empty where the target is the weight itself (mu = 1).
  MatrixView<const float> drift() const { return drift_; }

  // A column of `tile` is a row of the weight, by position: w becomes
  // t = A^-1 ((1 - mu) (C w + s) + mu H w + lambda^2 w) = w + (1 - mu) A^-1 (D w + s)
  // with D the drift's first n columns and s the one of the weight's row, or 0.
  // tile: (n, any); first_row: the weight's row in its first column. Runs on the calling thread.
  void to_target(MatrixView<float> tile, std::size_t first_row) const;

 private:
  void factorize(MatrixView<const float> gram);
  void invert_diagonal();

  SystemOptions options_;
  SystemReport report_;
  std::vector<std::uint32_t> order_;
  std::vector<std::uint8_t> live_;
  std::vector<float> pivots_, conditional_gram_;
  Matrix<float> metric_, factor_, masked_correction_;
  MatrixView<const float> drift_;
};

}  // namespace neap
