// The main job: a checkpoint in, a smaller one out, one block in memory at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "neap/calibration.h"
#include "neap/checkpoint.h"
#include "neap/codec.h"
#include "neap/error.h"
#include "neap/progress.h"
#include "neap/verify.h"

namespace neap {

// Which solver. The grid is the scheme's business, the file the format's.
enum class Method {
  rtn,    // round to nearest, no calibration
  gptq,   // target_mix 1, no paths, no descent (arXiv 2210.17323)
  gptaq,  // GPTQ with the published masked correction towards the full-precision activations (2504.02692)
  awq,    // activation-aware scales folded into the neighbours, clipping, rounding (2306.00978)
  ojbkq,  // joint target, extended Babai and Klein, descent (2602.08376)
};
Method method_from_name(const std::string& name);  // throws Error(argument) listing the names
std::string name_of(Method method);

// The order in which the inputs of a layer are decided. Groups stay those of the stored layout.
enum class SolveOrder {
  activation,  // largest input energy first
  backward,    // last input first, as the OJBKQ paper has it
  forward,     // first input first, as GPTQ has it
};
SolveOrder order_from_name(const std::string& name);
std::string name_of(SolveOrder order);

// What a layer's rounded weights shall reproduce, as far as target_mix leaves room.
enum class SolveTarget {
  layer,     // the layer's own output in the full-precision model: the OJBKQ paper's joint target
  residual,  // where the layer adds to the residual stream (o_proj, down_proj): the stream after it, so that
             // the layer makes up for what all layers before it lost; elsewhere as `layer`
  relative,  // the same, each token's error relative to the size of its stream, which the next norm divides by
};
SolveTarget target_from_name(const std::string& name);
std::string name_of(SolveTarget target);

// A pattern: an exact module name ("model.layers.0.mlp.up_proj"), a class name ("Linear"), or "re:"
// and a regular expression that matches from the start, as compressed-tensors has it.
struct Override {
  std::string pattern;
  std::optional<int> bits;
  std::optional<std::int64_t> group;
  std::optional<bool> symmetric;
};
// "PATTERN=bits:4,group:32,sym|asym". Throws Error(argument).
Override parse_override(const std::string& text);

// Which grid.
enum class Scheme {
  integer,  // integers under a scale per group: bits, group, symmetric, overrides, lm_head_bits
  lobcq,    // LO-BCQ's codebooks (2502.05376): layout, codebooks, weights_only; the head stays as it is
  nvfp4,    // the formats that hardware multiplies: BlockScaledRecipe; the head stays as it is
  mxfp4,
  int4,
  gguf,     // block types of GGUF: GgufRecipe; embedding and head as llama.cpp's quantizer has them
};
std::string name_of(Scheme scheme);
// The block-scaled format that a scheme is of, if it is of one.
std::optional<BlockScaled> block_scaled_of(Scheme scheme);

struct LobcqRecipe {
  LobcqLayout layout;
  std::string codebooks;      // a file of `neap codebooks fit`; empty: those that Neap ships
  bool weights_only = false;  // else the model is meant to run on 4-bit activations too (W4A4)
  ScaleChoice scales = ScaleChoice::search;  // maximum, as published, is for Method::rtn
};

struct BlockScaledRecipe {
  std::int64_t group = 64;    // of INT4: 64 or 128; the others have their own
  bool weights_only = false;  // else activations are in the format too (W4A4)
};

struct GgufRecipe {
  GgufMix mix = GgufMix::q4_0;
  bool pure = false;            // every matrix in the mix's base type, embedding and head included
  bool allow_fallback = false;  // a tensor whose shape the type cannot hold takes llama.cpp's second choice
};
// "Q4_K_M" and its like, in any case; "Q3_K", "Q4_K" and "Q5_K" are their _M. Throws Error(argument) listing the names.
GgufMix gguf_mix_from_name(std::string name);
std::string name_of(GgufMix mix);
// Whether the codes of its base type name entries of a table instead of counting steps: no paths, no refits.
bool has_tables(GgufMix mix);

enum class FileFormat { compressed_tensors, neap, gguf, gptq, gptq_v2 };
FileFormat format_from_name(const std::string& name);  // throws Error(argument) listing the names
std::string name_of(FileFormat format);

// Everything that decides the result, and nothing that does not (threads, memory, paths of files).
struct Recipe {
  Method method = Method::ojbkq;
  Scheme scheme = Scheme::integer;
  LobcqRecipe lobcq;                  // looked at with Scheme::lobcq alone
  BlockScaledRecipe block_scaled;     // with nvfp4, mxfp4 and int4; bits and the four after it with Scheme::integer
  GgufRecipe gguf;                    // with Scheme::gguf
  int bits = 4;
  std::optional<std::int64_t> group;  // unset: largest of 128, 64, 32 that divides every layer; 0: rows
  bool symmetric = true;
  std::vector<Override> overrides;    // the first that matches decides
  int lm_head_bits = 0;               // 0 keeps the head; else it is quantized (and untied if need be)
  std::vector<std::string> ignore;    // modules kept as they are
  bool imatrix = false;               // errors are weighted by QuantizeOptions::imatrix; with Method::rtn, which under
                                      // such an objective is what all methods come to

  std::int64_t samples = 0;           // windows; 0: all of the given text, 24 of self-written text
  std::int64_t length = 2048;         // tokens a window
  std::uint64_t seed = 42;
  Precision precision = Precision::bf16;  // of the calibration passes

  SolveTarget target = SolveTarget::relative;
  double target_mix = 0.6;            // mu; 1: the run-time inputs alone, 0: the full-precision target
  double ridge = 0.1;                 // lambda^2 relative to the mean of the gram's diagonal
  int paths = 5;                      // Klein's K; 0: the greedy walk alone
  SolveOrder order = SolveOrder::activation;
  int descent_sweeps = 32;            // at most; 0: none
  int refits = 1;                     // rounds of scales chosen anew for the codes, each with a descent; grids of tables
                                      // have none
  std::optional<bool> balance;        // factors between the layers of a block that cancel out (not with AWQ, which has
                                      // its own); unset: where ojbkq decides weights that run on 4-bit activations

  std::string to_json() const;
  // Unknown keys are an Error(format): a misspelt setting must not be ignored.
  static Recipe from_json(const std::string& text, const std::string& file);
};


// Recipe::balance, or what is meant where that is unset.
bool balances(const Recipe& recipe);

// Weights of a model whose predictions of a page take seconds.
inline constexpr std::int64_t kQuickPrediction = 1'000'000'000;

struct QuantizeOptions {
  Recipe recipe;
  std::vector<std::string> calibration_files;  // empty: text that the model writes itself
  std::string imatrix;                         // a file of importances; with Recipe::imatrix, and then alone
  std::string output;                          // a directory that does not exist yet
  std::optional<FileFormat> format;            // unset: the one that holds the recipe's scheme
  bool overwrite = false;
  std::optional<std::uint64_t> max_shard_bytes;  // tensors' bytes in a file; unset: 5 GiB, a GGUF is one file
  std::string command;                         // the line that asks for this, for report and model card
  std::string base_model;                      // ORG/NAME on the hub, for the card; empty: what lies beside the source says
  bool verify = true;                          // verify() the output against the checkpoint before it gets its name
  std::optional<bool> predict;                 // whether verification compares predictions; unset: where the run is long
                                               // beside them, so not after rounding a model of more than kQuickPrediction
  int threads = 0;                             // 0: OpenMP's default
  std::uint64_t max_memory = 0;                // bytes; 0: half of the machine's
  ProgressCallback progress;
};

struct LayerRecord {
  std::string module;
  WeightLayout layout;
  std::int64_t rows = 0, cols = 0;
  // ||R (w^ - t)||^2 summed over rows, in fp64, after each stage that ran; negative: it did not run.
  double objective_rounding = -1, objective_greedy = -1, objective_paths = -1, objective_descent = -1;
  double objective_refit = -1;
  double relative_error = 0;                   // ||X~ (W^ - W)'||^2 / ||X~ W'||^2
  double damping = 0;                          // lambda^2 used, relative to the mean of H's diagonal
  int factorizations = 0;                      // more than 1: the ridge had to grow
  std::int64_t dead_inputs = 0, near_dead_inputs = 0;
  std::vector<std::int64_t> rows_won;          // by the greedy path, then by each of Klein's
  std::vector<std::int64_t> coordinates_sampled;  // per path: coordinates that differed from greedy
  std::int64_t sweeps = 0, moves = 0, unsettled_rows = 0;  // of the first descent
  std::int64_t refitted = 0;                   // changes of a group's scale by refits
  double seconds = 0;
};

struct QuantizeReport {
  std::string output;
  std::string command, neap_version;
  std::string source;                          // what people call the model
  std::vector<TokenWindows::Source> source_files;  // the weights' files, by name; tokens mean nothing here
  Recipe recipe;
  std::vector<LayerRecord> layers;
  std::vector<TokenWindows::Source> calibration;
  std::int64_t calibration_windows = 0, calibration_tokens = 0;
  WeightLayout layout;                         // of layers that no override touches
  std::string activations;                     // "16 bits", or how the inputs of quantized layers are encoded
  std::string layout_reason;                   // why this group size, if it was not asked for
  double bits_per_weight = 0;                  // of the quantized layers
  double file_bits_per_weight = 0;             // all bytes of all tensors over all weights
  std::uint64_t file_bytes = 0;
  struct Engine {
    std::string name;
    bool loads = false;
    std::string reason;
  };
  std::vector<Engine> engines;
  struct Phase {
    std::string name;
    double seconds = 0, gflop = 0;             // gflop 0: not a matter of arithmetic
  };
  std::vector<Phase> phases;
  std::optional<VerifyReport> verification;
  std::vector<std::string> notes;              // what the user should know: tensors rounded, files left out
  double seconds = 0;
  std::uint64_t peak_memory = 0;               // VmHWM of this process, bytes

  // "4 bits, groups of 64, symmetric", "GGUF Q4_K_M"
  std::string grid() const;
  std::string to_json() const;                 // what quantization_report.json beside the output holds
};

// Another output of the same run: what differs from its QuantizeOptions. The recipe's samples, length, seed and
// precision are those of the run.
struct OtherOutput {
  Recipe recipe;
  std::string output;
  std::optional<FileFormat> format;
};

struct QuantizeOutcome {
  std::string output;
  std::optional<QuantizeReport> report;  // or
  std::optional<Error> failure;
};

// Several outputs from one calibration, each with the bytes that quantize() alone would give it. All of them share the
// calibration text; outputs of the same recipe in different formats share everything; outputs that walk alike (no balancing,
// not AWQ, the same method) share each block's reading and the full-precision passes. Statistics of run-time
// inputs are each grid's own: they depend on how it rounded the layers before. Memory: for each grid, activations and
// the decided part of a block more. Throws Error where any output is refused from the start (then none is
// made), and for a cancellation; what fails on the way fails alone. Outcomes are in the order asked for, options.output first.
std::vector<QuantizeOutcome> quantize_all(const Checkpoint& checkpoint, const QuantizeOptions& options, const std::vector<OtherOutput>& others);

// Throws Error; then, and when the progress callback cancels, nothing is left at `output`.
// Same checkpoint, calibration, recipe: the same bytes, at any thread count.
QuantizeReport quantize(const Checkpoint& checkpoint, const QuantizeOptions& options);

}  // namespace neap
