// Codebooks for blocks of numbers (LO-BCQ, arXiv 2502.05376, section 2): every block picks one of a
// few codebooks of 16 entries, and codebooks and picks are improved in turn until the error
// settles.
//
// Numbers are the format's fixed-point values n in [-4095, 4095], 64 to a unit of the entries, so
// that all that a cluster of blocks needs to be known by is a histogram. On it the paper's
// Lloyd-Max iteration costs next to nothing, and so does what follows it here: of all codebooks
// with entries in -31 .. 31 the very best for the cluster, by dynamic programming.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "neap/codebooks.h"
#include "neap/matrix.h"

namespace neap {

struct CodebookFitStep {
  // Entries are real numbers; integers; integers moved one at a time.
  enum class Phase { real, integer, refined };
  int start = 0;
  Phase phase = Phase::real;
  double error = 0;  // never above the step's before it in the same phase (NEAP_CHECKed)
  int revived = 0;   // codebooks that no block had picked, and that were set anew
};

struct CodebookFitOptions {
  int codebooks = 8;
  int starts = 4;           // from different seeds; the best is kept
  int iterations = 200;     // of a phase, at most
  int sweeps = 20;          // over all entries of the best codebooks, moving each by one, at most
  double tolerance = 1e-5;  // a phase ends when an iteration lowers the error by a lesser share
  std::uint64_t seed = 42;
  std::function<void(const CodebookFitStep&)> on_step = {};  // what it throws ends the fit
};

struct CodebookFit {
  Codebooks codebooks;  // from the narrowest to the widest
  // Weighted means of the squared error of a value, in squared units of the entries.
  double real_error = 0;     // of the best start with real entries
  double rounded_error = 0;  // these rounded, blocks assigned again
  double error = 0;          // of `codebooks`
  std::vector<CodebookFitStep> steps;
  int best_start = 0;
};

// blocks: (count, block), values in [-4095, 4095]. weights: one per block, >= 0, with a positive
// sum. The result depends on the seed, not on the thread count.
CodebookFit fit_codebooks(MatrixView<const std::int16_t> blocks, std::span<const float> weights,
                          const CodebookFitOptions& options);

// Goes on from codebooks of an earlier fit, once as they are and once through real entries: no
// randomness. Never worse than `codebooks`.
CodebookFit refit_codebooks(MatrixView<const std::int16_t> blocks, std::span<const float> weights,
                            const Codebooks& codebooks, const CodebookFitOptions& options);

// Weighted sum of squared errors in squared units, each block with its best codebook.
double codebook_error(MatrixView<const std::int16_t> blocks, std::span<const float> weights,
                      const Codebooks& codebooks);

}  // namespace neap
