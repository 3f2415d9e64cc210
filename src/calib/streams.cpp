#include "calib/streams.h"

#include <algorithm>
#include <cmath>

#include "base/parallel.h"
#include "model/elementwise.h"
#include "neap/error.h"

namespace neap {
namespace {

const char* name_of(Stage stage) {
  switch (stage) {
    case Stage::attention_input: return "input of q, k, v";
    case Stage::attention_output: return "input of o_proj";
    case Stage::mlp_input: return "input of gate and up";
    case Stage::mlp_hidden: return "input of down_proj";
  }
  return "";
}

bool writes_residual(Stage stage) {
  return stage == Stage::attention_output || stage == Stage::mlp_hidden;
}

constexpr std::size_t kRowsPerTile = 64;

void scale_rows(const std::vector<float>& factors, Matrix<float>& rows) {
  parallel_for((rows.rows() + kRowsPerTile - 1) / kRowsPerTile, [&](std::size_t tile) {
    for (std::size_t t = tile * kRowsPerTile; t < std::min(rows.rows(), (tile + 1) * kRowsPerTile); ++t) {
      for (std::size_t c = 0; c < rows.cols(); ++c) rows(t, c) *= factors[t];
    }
  });
}

}  // namespace

const std::vector<Role>& roles_of(Stage stage) {
  static const std::array<std::vector<Role>, 4> kRolesOf = {
      std::vector{Role::q, Role::k, Role::v}, std::vector{Role::o},
      std::vector{Role::gate, Role::up}, std::vector{Role::down}};
  return kRolesOf[static_cast<std::size_t>(stage)];
}

std::size_t width_of(const ModelConfig& config, Stage stage) {
  return static_cast<std::size_t>(module_shape(config, roles_of(stage).front())[1]);
}

Streams::Streams(const Weights& weights, const TokenWindows& windows, const StreamOptions& options)
    : weights_(weights),
      windows_(windows),
      options_(options),
      rope_(make_rope_table(weights.config(), windows.longest())) {
  const ModelConfig& config = weights.config();
  const std::size_t hidden = static_cast<std::size_t>(config.hidden);
  const std::size_t staged = std::max(width_of(config, Stage::attention_output),
                                      width_of(config, Stage::mlp_hidden));
  const std::size_t count = options.runtimes + (options.reference ? 1 : 0);
  const std::uint64_t budget = options.memory / (2 * count);
  for (std::size_t s = 0; s < count; ++s) {
    streams_.push_back(std::unique_ptr<Stream>(new Stream{
        {window_rows(), hidden, Precision::f32, budget, options.scratch},
        {window_rows(), staged, options.precision, budget, options.scratch}}));
  }
  for (std::size_t w = 0; w < windows.windows.size(); ++w) {
    auto x = Matrix<float>::unset(windows.windows[w].size(), hidden);
    weights.embed(windows.windows[w], x);
    for (const auto& stream : streams_) stream->residual.store(w, x);
  }
}

std::vector<std::size_t> Streams::window_rows() const {
  std::vector<std::size_t> rows;
  for (const auto& window : windows_.windows) rows.push_back(window.size());
  return rows;
}

Matrix<float> Streams::input(const Stream& stream, Stage stage, const Block& block,
                             std::size_t window) const {
  const ModelConfig& config = weights_.config();
  const std::size_t rows = windows_.windows[window].size();
  auto h = Matrix<float>::unset(rows, width_of(config, stage));
  if (writes_residual(stage)) {
    stream.staged.load(window, h);
    return h;
  }
  auto x = Matrix<float>::unset(rows, static_cast<std::size_t>(config.hidden));
  stream.residual.load(window, x);
  stage == Stage::attention_input ? attention_input(config, block, x, h) : mlp_input(config, block, x, h);
  return h;
}

void Streams::check_finite(const Matrix<float>& values, Stage stage, const Block& block,
                           std::size_t window) const {
  const std::size_t row = first_non_finite_row(values);
  if (row == values.rows()) return;
  const bool head = block.index == weights_.config().layers;  // lent to head_statistics
  const std::string what = head ? "input of the head" : std::string(name_of(stage)) + " of block " + std::to_string(block.index);
  throw Error(ErrorCode::data,
              "NaN or infinity in the " + what + ", calibration window " + std::to_string(window) + ", token " + std::to_string(row),
              {.tensor = head ? "lm_head" : module_name(block.index, roles_of(stage).front())});
}

// E of one window: what the full-precision streams are ahead of the run-time ones.
Matrix<float> Streams::ahead(Stage stage, const Block& reference, const Matrix<float>& inputs_now, const Stream& runtime,
                             std::size_t window) const {
  const Stream& whole = *streams_.back();
  const Matrix<float> full = input(whole, stage, reference, window);
  check_finite(full, stage, reference, window);
  const std::size_t rows = full.rows(), inputs = full.cols();
  Matrix<float> r, r_runtime;
  if (options_.residual && writes_residual(stage)) {
    const auto hidden = static_cast<std::size_t>(weights_.config().hidden);
    r = Matrix<float>::unset(rows, hidden);
    r_runtime = Matrix<float>::unset(rows, hidden);
    whole.residual.load(window, r);
    runtime.residual.load(window, r_runtime);
  }
  auto e = Matrix<float>::unset(rows, inputs + r.cols());
  parallel_for((rows + kRowsPerTile - 1) / kRowsPerTile, [&](std::size_t tile) {
    for (std::size_t t = tile * kRowsPerTile; t < std::min(rows, (tile + 1) * kRowsPerTile); ++t) {
      for (std::size_t c = 0; c < inputs; ++c) e(t, c) = full(t, c) - inputs_now(t, c);
      for (std::size_t c = 0; c < r.cols(); ++c) e(t, inputs + c) = r(t, c) - r_runtime(t, c);
    }
  });
  return e;
}

// By token, 1 / rms of a residual stream once the undecided layer has added to it; 0 where all of it is 0.
std::vector<float> Streams::token_weights(Stage stage, const Block& reference, const Stream& stream, std::size_t window) const {
  const Matrix<float> h = input(stream, stage, reference, window);
  auto r = Matrix<float>::unset(h.rows(), static_cast<std::size_t>(weights_.config().hidden));
  stream.residual.load(window, r);
  stage == Stage::attention_output ? add_attention(reference, h, r) : add_mlp(reference, h, r);
  std::vector<float> weights(r.rows());
  parallel_for((r.rows() + kRowsPerTile - 1) / kRowsPerTile, [&](std::size_t tile) {
    for (std::size_t t = tile * kRowsPerTile; t < std::min(r.rows(), (tile + 1) * kRowsPerTile); ++t) {
      double energy = 0;
      for (std::size_t c = 0; c < r.cols(); ++c) energy += double{r(t, c)} * r(t, c);
      weights[t] = energy == 0 ? 0 : static_cast<float>(std::sqrt(static_cast<double>(r.cols()) / energy));
    }
  });
  return weights;
}

GramPair Streams::statistics(Stage stage, const Block& reference, const Block& runtime, std::size_t which) {
  const std::size_t width = width_of(weights_.config(), stage);
  const bool residual = options_.residual && writes_residual(stage);
  const std::size_t columns = width + (residual ? static_cast<std::size_t>(weights_.config().hidden) : 0);
  const Stream& stream = *streams_[which];
  GramAccumulator sums(width, options_.reference ? columns : 0, windows_.windows.size(), options_.precision);
  for (std::size_t w = 0; w < windows_.windows.size(); ++w) {
    Matrix<float> h = input(stream, stage, runtime, w);
    check_finite(h, stage, runtime, w);
    Matrix<float> e = options_.reference ? ahead(stage, reference, h, stream, w) : Matrix<float>();
    if (options_.relative && writes_residual(stage)) {
      const std::vector<float> weights = token_weights(stage, reference, options_.reference ? *streams_.back() : stream, w);
      scale_rows(weights, h);
      scale_rows(weights, e);
    }
    sums.add(w, h, e);
  }
  return sums.finish();
}

void Streams::visit_inputs(Stage stage, const Block& runtime,
                           const std::function<void(MatrixView<const float> inputs)>& visit, std::size_t which) {
  for (std::size_t w = 0; w < windows_.windows.size(); ++w) {
    const Matrix<float> h = input(*streams_[which], stage, runtime, w);
    check_finite(h, stage, runtime, w);
    visit(h);
  }
}

void Streams::visit_block(const Block& block, std::size_t windows,
                          const std::function<void(Stage stage, MatrixView<const float> inputs)>& visit) const {
  const ModelConfig& config = weights_.config();
  const std::size_t count = windows_.windows.size(), visited = std::min(windows, count);
  for (std::size_t i = 0; i < visited; ++i) {
    const std::size_t window = i * count / visited, rows = windows_.windows[window].size();
    const auto hand_out = [&](Stage stage, const Matrix<float>& inputs) {
      check_finite(inputs, stage, block, window);
      visit(stage, inputs);
    };
    auto x = Matrix<float>::unset(rows, static_cast<std::size_t>(config.hidden));
    streams_.back()->residual.load(window, x);
    auto h = Matrix<float>::unset(rows, x.cols());
    attention_input(config, block, x, h);
    hand_out(Stage::attention_input, h);
    auto a = Matrix<float>::unset(rows, width_of(config, Stage::attention_output));
    attention(config, block, rope_, options_.precision, rows, h, a);
    hand_out(Stage::attention_output, a);
    add_attention(block, a, x);
    mlp_input(config, block, x, h);
    hand_out(Stage::mlp_input, h);
    auto f = Matrix<float>::unset(rows, width_of(config, Stage::mlp_hidden));
    mlp_hidden(block, h, f);
    hand_out(Stage::mlp_hidden, f);
  }
}

std::vector<float> Streams::mean_magnitudes(Stage stage, const Block& runtime) {
  std::vector<double> sums(width_of(weights_.config(), stage));
  visit_inputs(stage, runtime, [&](MatrixView<const float> h) {
    for (std::size_t r = 0; r < h.rows; ++r) {
      for (std::size_t c = 0; c < h.cols; ++c) sums[c] += std::abs(h(r, c));
    }
  });
  std::vector<float> means(sums.size());
  for (std::size_t c = 0; c < sums.size(); ++c) {
    means[c] = static_cast<float>(sums[c] / static_cast<double>(windows_.tokens()));
  }
  return means;
}

void Streams::advance(Stage stage, const Block& reference, std::span<const Block* const> runtimes) {
  NEAP_CHECK(runtimes.size() == options_.runtimes);
  for (std::size_t w = 0; w < windows_.windows.size(); ++w) {
    for (std::size_t which = 0; which < runtimes.size(); ++which) {
      if (runtimes[which]) advance(*streams_[which], stage, *runtimes[which], w);
    }
    if (options_.reference) advance(*streams_.back(), stage, reference, w);
  }
}

void Streams::advance(Stage stage, const Block& reference, const Block& runtime) {
  const Block* const only = &runtime;
  advance(stage, reference, {&only, 1});
}

void Streams::advance(Stream& stream, Stage stage, const Block& block, std::size_t window) {
  const ModelConfig& config = weights_.config();
  const Matrix<float> h = input(stream, stage, block, window);
  if (stage == Stage::attention_input || stage == Stage::mlp_input) {
    const bool attends = stage == Stage::attention_input;
    auto out = Matrix<float>::unset(h.rows(), width_of(config, attends ? Stage::attention_output : Stage::mlp_hidden));
    attends ? attention(config, block, rope_, options_.precision, h.rows(), h, out)
            : mlp_hidden(block, h, out);
    stream.staged.store(window, out);
    return;
  }
  auto x = Matrix<float>::unset(h.rows(), static_cast<std::size_t>(config.hidden));
  stream.residual.load(window, x);
  stage == Stage::attention_output ? add_attention(block, h, x) : add_mlp(block, h, x);
  stream.residual.store(window, x);
}

GramPair Streams::head_statistics(const std::vector<float>& final_norm, std::size_t which) {
  const ModelConfig& config = weights_.config();
  // The final norm is a norm like a block's: a block that has nothing else lends its step.
  Block last;
  last.index = config.layers;
  last.input_norm = final_norm;
  return statistics(Stage::attention_input, last, last, which);
}

}  // namespace neap
