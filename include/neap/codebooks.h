// LO-BCQ's codebooks (arXiv 2502.05376): the tables that a model's 4-bit codes point into. Few,
// tiny, and the same for every model. docs/formats/lobcq.md says how a tensor uses them,
// docs/algorithms/lobcq.md how they are found.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "neap/calibration_options.h"
#include "neap/checkpoint.h"
#include "neap/progress.h"

namespace neap {

// How a row is cut along the reduction axis: block arrays share a scale, blocks share a codebook.
struct LobcqLayout {
  int block_array = 64;  // values that share a scale: 16, 32, 64 or 128
  int block = 8;         // values that share a codebook: 2, 4 or 8
  int codebooks = 8;     // 2, 4, 8 or 16

  bool valid() const;
  int selector_bits() const;  // log2(codebooks)
  // Per row of `cols` values. The last array and the last block are shorter where the sizes do not
  // divide.
  std::int64_t arrays(std::int64_t cols) const;
  std::int64_t blocks(std::int64_t cols) const;

  bool operator==(const LobcqLayout&) const = default;
};
// Throws Error(argument) naming the number that is not one of those above.
void require_valid(const LobcqLayout& layout);

inline constexpr int kCodebookEntries = 16;
inline constexpr int kLargestEntry = 31;  // INT6, symmetric

// Ascending, each in [-31, 31]; equal entries are allowed.
using Codebook = std::array<std::int8_t, kCodebookEntries>;
// As many as the layout says. The order is part of a file's meaning: selectors are indices.
using Codebooks = std::vector<Codebook>;

struct CodebookSet {
  LobcqLayout layout;
  Codebooks weights, activations;

  bool operator==(const CodebookSet&) const = default;
};

// Which E4M3 scale a block array gets.
enum class ScaleChoice {
  maximum,  // the nearest one to max |x| / (31 tensor_scale), with the sign of that x: one pass
  search,   // of that one and its neighbours with either sign, the one of least squared error
};
ScaleChoice scale_choice_from_name(const std::string& name);  // throws Error(argument)
std::string name_of(ScaleChoice choice);

// The set that Neap ships: fitted once, never changed. There is one for each number of codebooks,
// fitted at blocks of 8 and block arrays of 64 and given for every block array. Throws
// Error(argument) for other blocks, or a layout that is not valid.
CodebookSet universal_codebooks(const LobcqLayout& layout);

// {"format": "neap-codebooks", "version": 1, "block_array", "block", "num_codebooks",
//  "weights": [[16 integers], ...], "activations": [...]}, and nothing else.
std::string to_json(const CodebookSet& set);
// Whole or absent. Throws Error(io).
void save_codebooks(const CodebookSet& set, const std::string& path);
// Throws Error(io), or Error(format) naming the file and the key: JSON that is none, a key too few
// or too many, another format or version, a wrong shape, a codebook that does not ascend, an entry
// out of range.
CodebookSet read_codebooks(const std::string& path);

// Where codebooks are fitted to.
struct CodebookOptions {
  LobcqLayout layout;
  CalibrationOptions calibration;  // of each model, 8 windows of self-written text; its seed is that of sample and starts, too
  enum class Layers { all, even, odd };
  Layers layers = Layers::all;  // whose weights and inputs are looked at
  bool synthetic = false;       // as much again of Gaussian, Laplace and Student-t arrays
  std::int64_t reservoir = std::int64_t{1} << 17;  // blocks of each kind that the fit sees
  int starts = 4;
  int rounds = 8;  // at most, of choosing scales and codebooks in turn
  std::vector<CodebookSet> compare;  // also measured on the same blocks; fitted at any block array
  int threads = 0;                   // 0: OpenMP's default
  std::uint64_t max_memory = 0;      // bytes; 0: half of the machine's
  ProgressCallback progress;
};

// Errors are relative: the squared error of a row (a token's, for activations) over its squared
// norm, as the mean over the rows from which the blocks are.
struct CodebookReport {
  struct Step {
    std::string phase;  // "start 2, real entries", "start 2, integers", "round 3"
    int iteration = 0;
    double error = 0;
  };
  struct Side {
    std::int64_t arrays_seen = 0, arrays_kept = 0;
    std::vector<Step> steps;
    // Scales from the maximum: entries real, rounded, then improved as integers; then with searched
    // scales.
    double real_error = 0, rounded_error = 0, integer_error = 0, error = 0;
    double maximum_error = 0;      // of the final codebooks, scales from the maximum
    std::vector<double> compared;  // of options.compare, scales searched
  };
  CodebookSet set;
  Side weights, activations;
  double seconds = 0, fit_seconds = 0;  // of all, and of what came after the forward passes
};

// Throws Error; for a progress callback that cancels too. Same models, text and options: the same
// codebooks, at any thread count.
CodebookReport make_codebooks(const std::vector<Checkpoint>& models,
                              const CodebookOptions& options);

}  // namespace neap
