#include "neap/imatrix.h"

#include <filesystem>

#include "base/parallel.h"
#include "calib/streams.h"
#include "io/imatrix.h"
#include "model/weights.h"
#include "neap/error.h"
#include "quantize/calibration_text.h"
#include "quantize/timing.h"

namespace neap {
namespace {

// Adds each column's sum of squares. A tile is some columns, and adds its rows in order.
void add_squares(MatrixView<const float> inputs, std::vector<double>& sums) {
  constexpr std::size_t kColumns = 64;
  parallel_for((inputs.cols + kColumns - 1) / kColumns, [&](std::size_t tile) {
    const std::size_t first = tile * kColumns, end = std::min(inputs.cols, first + kColumns);
    for (std::size_t r = 0; r < inputs.rows; ++r) {
      const float* x = inputs.row(r);
      for (std::size_t c = first; c < end; ++c) sums[c] += static_cast<double>(x[c]) * x[c];
    }
  });
}

// The scratch file of the activations grows where the output will.
std::string folder_of(const std::string& file) {
  return std::filesystem::absolute(file).lexically_normal().parent_path().string();
}

std::map<std::string, ImportanceMatrix::Entry> measure(const Weights& weights, const TokenWindows& windows,
                                                       const ImatrixOptions& options) {
  Streams streams(weights, windows,
                  {.reference = false,
                   .residual = false,
                   .precision = options.precision,
                   .memory = memory_limit(options.max_memory) / 4,
                   .scratch = folder_of(options.output)});
  std::map<std::string, ImportanceMatrix::Entry> entries;
  const std::int64_t layers = weights.config().layers;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    if (options.progress && !options.progress({"blocks", layer, layers, {}})) {
      throw Error(ErrorCode::cancelled, "cancelled");
    }
    const Block block = weights.block(layer, options.precision);
    for (const Stage stage : kStages) {
      std::vector<double> sums(width_of(weights.config(), stage));
      streams.visit_inputs(stage, block, [&](MatrixView<const float> inputs) { add_squares(inputs, sums); });
      for (const Role role : roles_of(stage)) {
        entries[gguf_weight_name(layer, role)] = {{sums.begin(), sums.end()}, windows.tokens()};
      }
      streams.advance(stage, block, block);
    }
  }
  return entries;
}

}  // namespace

ImatrixReport make_imatrix(const Checkpoint& checkpoint, const ImatrixOptions& options) {
  const ThreadScope threads(options.threads);
  const double start = seconds_now();
  const Weights weights(checkpoint, read_config(checkpoint));
  const TokenWindows windows = calibration_windows(
      checkpoint, options.calibration, {.precision = options.precision, .max_memory = options.max_memory, .progress = options.progress});
  ImportanceMatrix matrix;
  matrix.entries = measure(weights, windows, options);
  for (const auto& source : windows.sources) matrix.datasets.push_back(source.name);
  matrix.chunks = static_cast<std::int64_t>(windows.windows.size());
  matrix.chunk_size = options.calibration.length;
  write_imatrix(matrix, options.output);
  return {.calibration = windows.sources,
          .windows = matrix.chunks,
          .tokens = windows.tokens(),
          .weights = static_cast<std::int64_t>(matrix.entries.size()),
          .seconds = seconds_now() - start};
}

}  // namespace neap
