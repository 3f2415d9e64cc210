// Codebooks fitted to models: a sample of block arrays of their weights and of their layers'
// inputs, then scales and codebooks chosen in turn.
#include "neap/codebooks.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/parallel.h"
#include "calib/streams.h"
#include "codec/lobcq_encode.h"
#include "model/elementwise.h"
#include "model/weights.h"
#include "neap/calibration.h"
#include "neap/error.h"
#include "quantize/array_reservoir.h"
#include "quantize/calibration_text.h"
#include "quantize/timing.h"
#include "solve/codebook_fit.h"

namespace neap {
namespace {

constexpr std::int64_t kSelfWrittenWindows = 8;
constexpr double kRoundGain =
    1e-4;  // share of the error that a round must gain to be followed by another

struct Samples {
  ArraySample weights, activations;
};

void report(const CodebookOptions& options, const std::string& stage, std::int64_t done,
            std::int64_t total) {
  if (!options.progress || options.progress({stage, done, total, {}})) return;
  throw Error(ErrorCode::cancelled, "cancelled");
}

bool wanted(const CodebookOptions& options, std::int64_t layer) {
  if (options.layers == CodebookOptions::Layers::all) return true;
  return (layer % 2 == 0) == (options.layers == CodebookOptions::Layers::even);
}

void add_weights(const Weights& weights, std::int64_t layer, const std::string& name,
                 ArrayReservoir& reservoir) {
  for (std::size_t role = 0; role < kRoles; ++role) {
    const std::string module = module_name(layer, static_cast<Role>(role));
    const Matrix<float> values = weights.weight(layer, static_cast<Role>(role));
    if (first_non_finite_row(values) < values.rows()) {
      throw Error(ErrorCode::data, "NaN or infinity in the weights",
                  {.file = name, .tensor = module});
    }
    reservoir.add(name + " " + module, 0, values);
  }
}

void visit_model(const Checkpoint& checkpoint, const CodebookOptions& options,
                 ArrayReservoir& of_weights, ArrayReservoir& of_activations) {
  const Weights weights(checkpoint, read_config(checkpoint));
  const TokenWindows windows = calibration_windows(
      checkpoint, options.calibration,
      {.windows = kSelfWrittenWindows, .max_memory = options.max_memory, .progress = options.progress});
  const std::string name = std::filesystem::path(checkpoint.path()).filename().string();
  Streams streams(weights, windows,
                  {.reference = false,
                   .residual = false,
                   .precision = Precision::bf16,
                   .memory = memory_limit(options.max_memory) / 4,
                   .scratch = std::filesystem::temp_directory_path().string()});
  const std::int64_t layers = weights.config().layers;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    report(options, "blocks of " + name, layer, layers);
    const Block block = weights.block(layer, Precision::bf16);
    if (wanted(options, layer)) add_weights(weights, layer, name, of_weights);
    for (const Stage stage : kStages) {
      const std::string source =
          name + " " + module_name(layer, roles_of(stage).front()) + " input";
      if (wanted(options, layer)) {
        std::size_t row = 0;
        streams.visit_inputs(stage, block, [&](MatrixView<const float> inputs) {
          of_activations.add(source, row, inputs);
          row += inputs.rows;
        });
      }
      streams.advance(stage, block, block);
    }
  }
  report(options, "blocks of " + name, layers, layers);
}

Samples sample(const std::vector<Checkpoint>& models, const CodebookOptions& options) {
  const auto width = static_cast<std::size_t>(options.layout.block_array);
  const auto arrays =
      std::max<std::size_t>(1, static_cast<std::size_t>(options.reservoir * options.layout.block /
                                                        options.layout.block_array));
  ArrayReservoir weights(width, arrays, options.calibration.seed), activations(width, arrays, options.calibration.seed);
  for (const Checkpoint& model : models) visit_model(model, options, weights, activations);
  Samples samples{weights.take(), activations.take()};
  if (!options.synthetic) return samples;
  const ArraySample synthetic = synthetic_arrays(width, arrays, options.calibration.seed);
  return {join(samples.weights, synthetic), join(samples.activations, synthetic)};
}

struct Blocks {
  Matrix<std::int16_t> points;
  std::vector<float>
      weights;  // so that the weighted sum of squared errors in units is the relative error
};

// With a power of two per row as its tensor's scale: which one it is matters to subnormal and
// saturated scales alone, and no sample has them.
template <class Choose>
Blocks normalize(const ArraySample& sample, const LobcqLayout& layout, const Choose& choose) {
  const std::size_t count = sample.arrays.rows(), width = sample.arrays.cols();
  const std::size_t per_array = width / static_cast<std::size_t>(layout.block);
  Blocks blocks{Matrix<std::int16_t>(count * per_array, static_cast<std::size_t>(layout.block)),
                std::vector<float>(count * per_array)};
  constexpr std::size_t kTile = 256;
  parallel_for((count + kTile - 1) / kTile, [&](std::size_t tile) {
    for (std::size_t a = tile * kTile; a < std::min(count, (tile + 1) * kTile); ++a) {
      const std::span<const float> x(sample.arrays.row(a), width);
      const float tensor_scale = tensor_scale_for(sample.maxima[a]);
      const float unit = tensor_scale * e4m3_to_float(choose(x, tensor_scale));
      to_fixed_point(x, unit, blocks.points.row(a * per_array));
      const double weight =
          static_cast<double>(unit) * unit /
          (sample.norms[a] * static_cast<double>(width) * static_cast<double>(count));
      std::fill_n(blocks.weights.begin() + static_cast<std::ptrdiff_t>(a * per_array), per_array,
                  static_cast<float>(weight));
    }
  });
  return blocks;
}

Blocks normalize(const ArraySample& sample, const LobcqLayout& layout, const Codebooks& codebooks) {
  const LobcqEncoder encoder(layout, codebooks);
  return normalize(sample, layout, [&](std::span<const float> x, float tensor_scale) {
    return encoder.choose_scale(x, tensor_scale, ScaleChoice::search);
  });
}

double total_error(const Blocks& blocks, const Codebooks& codebooks) {
  return codebook_error(blocks.points, blocks.weights, codebooks);
}

std::string phase_name(const CodebookFitStep& step, const std::string& round) {
  const std::string name = round.empty() ? "start " + std::to_string(step.start + 1) : round;
  switch (step.phase) {
    case CodebookFitStep::Phase::real:
      return name + ", real entries";
    case CodebookFitStep::Phase::integer:
      return name + ", integers";
    default:
      return name + ", entry by entry";
  }
}

void note_steps(const CodebookFit& fit, const std::string& round, double values,
                CodebookReport::Side& side) {
  int iteration = 0;
  for (std::size_t i = 0; i < fit.steps.size(); ++i) {
    const std::string phase = phase_name(fit.steps[i], round);
    iteration = i > 0 && side.steps.back().phase == phase ? iteration + 1 : 0;
    side.steps.push_back({phase, iteration, fit.steps[i].error * values});
  }
}

// From the fit's mean errors of a value to relative errors of rows.
double weight_of_values(const Blocks& blocks) {
  double sum = 0;
  for (const float weight : blocks.weights) sum += weight;
  return sum * static_cast<double>(blocks.points.cols());
}

// Scales for the codebooks, codebooks for the scales, until that gains nothing.
Codebooks alternate(const ArraySample& sample, const std::string& name, Codebooks codebooks,
                    const CodebookOptions& options, CodebookReport::Side& side) {
  for (int round = 0; round < options.rounds; ++round) {
    const CodebookFitOptions fit_options{
        .codebooks = options.layout.codebooks, .on_step = [&](const CodebookFitStep&) {
          report(options, "scales and codebooks of " + name, round, options.rounds);
        }};
    const Blocks blocks = normalize(sample, options.layout, codebooks);
    const CodebookFit fit = refit_codebooks(blocks.points, blocks.weights, codebooks, fit_options);
    const double values = weight_of_values(blocks);
    note_steps(fit, "round " + std::to_string(round + 1), values, side);
    codebooks = fit.codebooks;
    const double before = std::exchange(side.error, fit.error * values);
    if (before - side.error <= kRoundGain * side.error) break;
  }
  return codebooks;
}

Codebooks fit_side(const ArraySample& sample, const std::string& name,
                   const CodebookOptions& options, CodebookReport::Side& side) {
  if (sample.arrays.rows() == 0) {
    throw Error(
        ErrorCode::data, "no block arrays of " + name + " to fit codebooks to",
        {.expected = "rows of at least " + std::to_string(options.layout.block_array) + " values"});
  }
  side.arrays_seen = sample.seen;
  side.arrays_kept = static_cast<std::int64_t>(sample.arrays.rows());
  const CodebookFitOptions fit_options{.codebooks = options.layout.codebooks,
                                       .starts = options.starts,
                                       .seed = options.calibration.seed,
                                       .on_step = [&](const CodebookFitStep& step) {
                                         report(options, "codebooks of " + name, step.start,
                                                options.starts);
                                       }};
  const Blocks first = normalize(sample, options.layout, scale_of_maximum);
  const double values = weight_of_values(first);
  const CodebookFit fit = fit_codebooks(first.points, first.weights, fit_options);
  note_steps(fit, "", values, side);
  side.real_error = fit.real_error * values;
  side.rounded_error = fit.rounded_error * values;
  side.error = side.integer_error = fit.error * values;
  const Codebooks codebooks = alternate(sample, name, fit.codebooks, options, side);
  side.error = total_error(normalize(sample, options.layout, codebooks), codebooks);
  side.maximum_error = total_error(first, codebooks);
  return codebooks;
}

}  // namespace

CodebookReport make_codebooks(const std::vector<Checkpoint>& models,
                              const CodebookOptions& options) {
  require_valid(options.layout);
  for (const CodebookSet& set : options.compare) {
    if (set.layout.block != options.layout.block ||
        set.layout.codebooks != options.layout.codebooks) {
      throw Error(ErrorCode::argument,
                  "codebooks to compare with are for other blocks, or others in number");
    }
  }
  const ThreadScope threads(options.threads);
  const double start = seconds_now();
  CodebookReport out;
  const Samples samples = sample(models, options);
  const double sampled = seconds_now();
  out.set.layout = options.layout;
  out.set.weights = fit_side(samples.weights, "weights", options, out.weights);
  out.set.activations = fit_side(samples.activations, "activations", options, out.activations);
  for (const CodebookSet& set : options.compare) {
    const auto measure = [&](const ArraySample& arrays, const Codebooks& codebooks) {
      return total_error(normalize(arrays, options.layout, codebooks), codebooks);
    };
    out.weights.compared.push_back(measure(samples.weights, set.weights));
    out.activations.compared.push_back(measure(samples.activations, set.activations));
  }
  out.seconds = seconds_now() - start;
  out.fit_seconds = seconds_now() - sampled;
  return out;
}

}  // namespace neap
