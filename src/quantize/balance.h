// Balancing: a block changed so that it computes the same and its layers lose less to rounding, at no cost at run time.
//
// What a layer's inputs x and its weights w lose to 4 bits follows the energy of whole arrays, whichever of their values are
// the large ones. Of all factors s, x / s with w s loses least where each input's and its column's energies are the same:
// s_j^2 = rms(x_j) / |w_j| (Cauchy-Schwarz). The factors of q, k, v's and of gate and up's inputs go into the norm before them,
// those of down's into up's rows. Between v and o a whole basis can change, a head at a time: balance_forms.
// docs/algorithms/lobcq.md has what it gains and what was tried beside it.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "calib/streams.h"
#include "linalg/balancing.h"
#include "model/weights.h"
#include "quantize/walk.h"

namespace neap {

class Balance {
 public:
  // Looks at what enters the layers of `block` in the full-precision stream, in a few of the windows. An input is changed only
  // where all layers that read it, and the layer that makes it, are in `plan`. Of norms, factors are such that the stored type
  // holds the divided norm exactly. Throws Error(data) for NaN or infinity. `weights` must outlive this.
  Balance(const Weights& weights, const Plan& plan, const Streams& streams, const Block& block);

  // The changed weight (out, in) and bias (out, or empty) of a layer.
  Matrix<float> weight(Role role) const;
  std::vector<float> bias(Role role) const;
  // The changed block, which computes what `block` does.
  Block apply(Block block, Precision precision) const;
  // Norms and biases that changed, by name.
  void write_dense(const LayerSink& sink) const;

 private:
  using Factors = std::vector<float>;  // a stage's inputs are divided by them; empty: they stay
  struct Moments;

  const Factors& factors(Stage stage) const { return factors_[static_cast<std::size_t>(stage)]; }
  bool planned(const Plan& plan, Stage stage) const;
  Factors choose_factors(Stage stage, const std::vector<double>& energies) const;
  static void absorb(std::vector<float>& norm, Factors& factors);
  void change_heads(const std::vector<Matrix<double>>& moments);
  bool changes_bias(Role role) const;

  const Weights& weights_;
  std::int64_t layer_;
  std::array<Factors, kStages.size()> factors_;
  std::vector<float> input_norm_, mlp_norm_;
  std::vector<BasisChange> heads_;  // of each key-value head's values, or empty
};

}  // namespace neap
