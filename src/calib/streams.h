// The activation streams of a walk over the blocks: X, the full-precision model's, and X~, that of the model whose
// earlier layers are already quantized; where one walk decides for several grids, an X~ of each. All go through each
// block together, stage by stage; a stage is the set of layers that read one input.
//
//   for each block:  for each stage:  statistics(stage)  ->  decide its layers  ->  advance(stage)
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "calib/activations.h"
#include "linalg/gram.h"
#include "model/block.h"
#include "model/weights.h"
#include "neap/calibration.h"

namespace neap {

enum class Stage { attention_input, attention_output, mlp_input, mlp_hidden };
inline constexpr std::array kStages = {Stage::attention_input, Stage::attention_output,
                                       Stage::mlp_input, Stage::mlp_hidden};
// The layers that read a stage's input: {q, k, v}, {o}, {gate, up}, {down}.
const std::vector<Role>& roles_of(Stage stage);
// Inputs of a stage's layers.
std::size_t width_of(const ModelConfig& config, Stage stage);

struct StreamOptions {
  std::size_t runtimes = 1;        // how many X~; `which` below counts them from 0
  bool reference = true;           // carry X too, for the drift
  bool residual = false;           // and let the drift tell how far the residual stream is behind
  bool relative = false;           // and weigh tokens, where layers write that stream, by its size
  Precision precision = Precision::bf16;
  std::uint64_t memory = 0;        // bytes for activations before they go to the scratch file
  std::string scratch = ".";       // directory of that file
};

class Streams {
 public:
  // Embeds the windows. `weights` and `windows` must outlive this. Throws Error(argument) for a token
  // outside the vocabulary, Error(io) for the scratch file.
  Streams(const Weights& weights, const TokenWindows& windows, const StreamOptions& options);

  // H = X~'X~ and, with a reference stream, D = X~'E of what `stage` of the block reads now. E = X - X~;
  // with `residual`, at the stages whose layers write the residual stream r (o, down), E is
  // [X - X~, r - r~], r before they add to it. With `relative`, there too, a token's rows of X~ and E are divided by the rms of
  // r after they have added to it (X~'s own without a reference stream): the next norm divides their errors by that. `reference`
  // and `runtime` are the block with its own and with its decided weights (the same object if there
  // is no reference stream). Same bits at any thread count. Throws Error(data) naming block, stage and
  // window where an activation is NaN or infinite.
  GramPair statistics(Stage stage, const Block& reference, const Block& runtime, std::size_t which = 0);

  // Hands out what `stage` reads in a run-time stream, a window at a time and in order: (tokens, inputs).
  // Throws Error(data) as statistics.
  void visit_inputs(Stage stage, const Block& runtime,
                    const std::function<void(MatrixView<const float> inputs)>& visit, std::size_t which = 0);

  // Passes at most `windows` windows, evenly spread, through `block` without moving a stream, and hands out what its stages
  // read, stage by stage of each window: (tokens, inputs). From X, or X~ if that is the only stream. Throws as statistics.
  void visit_block(const Block& block, std::size_t windows,
                   const std::function<void(Stage stage, MatrixView<const float> inputs)>& visit) const;

  // Mean |x| of each input of `stage` in the run-time stream, over all tokens: what AWQ weighs by.
  std::vector<float> mean_magnitudes(Stage stage, const Block& runtime);

  // All streams pass the layers of `stage`, which the blocks of `runtimes` have decided by now. Null: that stream is
  // of no use any more, and stays behind.
  void advance(Stage stage, const Block& reference, std::span<const Block* const> runtimes);
  void advance(Stage stage, const Block& reference, const Block& runtime);

  // The same, for the head: what it reads is the normed end of the last block.
  GramPair head_statistics(const std::vector<float>& final_norm, std::size_t which = 0);

 private:
  struct Stream {
    Activations residual;  // fp32
    Activations staged;    // inputs of o or of down, as the last stage left them
  };
  std::vector<std::size_t> window_rows() const;
  Matrix<float> input(const Stream& stream, Stage stage, const Block& block, std::size_t window) const;
  std::vector<float> token_weights(Stage stage, const Block& reference, const Stream& stream, std::size_t window) const;
  Matrix<float> ahead(Stage stage, const Block& reference, const Matrix<float>& inputs, const Stream& runtime,
                      std::size_t window) const;
  void check_finite(const Matrix<float>& values, Stage stage, const Block& block, std::size_t window) const;
  void advance(Stream& stream, Stage stage, const Block& block, std::size_t window);

  const Weights& weights_;
  const TokenWindows& windows_;
  StreamOptions options_;
  RopeTable rope_;
  std::vector<std::unique_ptr<Stream>> streams_;  // each X~, then X if it is carried
};

}  // namespace neap
