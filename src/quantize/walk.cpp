#include "quantize/walk.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <tuple>

#include "codec/lobcq_encode.h"
#include "neap/error.h"
#include "quantize/balance.h"
#include "quantize/block_scaled.h"
#include "quantize/layer_decision.h"

namespace neap {
namespace {

constexpr const char* kStatistics = "statistics";
constexpr const char* kForward = "forward passes";

bool needs_reference(const Recipe& recipe) {
  return recipe.method == Method::gptaq ||
         (recipe.method == Method::ojbkq && recipe.target_mix < 1);
}

// Calibration sees few tokens: room above the largest value that it saw, in powers of two.
constexpr int kInputHeadroom = 2;

// Multiply-adds of one pass over a stage's inputs: a product with each layer's weight.
double stage_gflop(const ModelConfig& config, Stage stage, std::int64_t tokens) {
  double weights = 0;
  for (const Role role : roles_of(stage)) {
    const Shape shape = module_shape(config, role);
    weights += static_cast<double>(shape[0] * shape[1]);
  }
  return 2e-9 * weights * static_cast<double>(tokens);
}

// Scores and weighted values of causal attention; a window of n tokens has n (n + 1) / 2 pairs.
double attention_gflop(const ModelConfig& config, const TokenWindows& windows) {
  double pairs = 0;
  for (const auto& w : windows.windows) {
    pairs += 0.5 * static_cast<double>(w.size()) * static_cast<double>(w.size() + 1);
  }
  return 4e-9 * pairs * static_cast<double>(config.heads * config.head_dim);
}

// Decides the layers of one task. What all tasks share is the Walk's.
class GridWalk {
 public:
  GridWalk(const Weights& weights, const TokenWindows& windows, Streams& streams, WalkTask& task, std::size_t which)
      : weights_(weights), plan_(task.plan), windows_(windows), options_(task.options), sink_(task.sink), clock_(task.clock),
        records_(task.records), streams_(streams), which_(which) {}

  // From here on `full` may be another block that computes the same.
  void begin(Block& full) {
    balance_.reset();
    if (balances(options_.recipe)) timed(clock_, "balancing", 0, [&] { balance(full); });
    runtime_ = full;
  }
  const Block& runtime() const { return runtime_; }

  void decide(Stage stage, const Block& full) {
    const auto& roles = roles_of(stage);
    const auto planned = [&](Role role) { return plan_.find(module_name(full.index, role)) != nullptr; };
    if (std::none_of(roles.begin(), roles.end(), planned)) return;
    const std::optional<float> input_scale = scale_of_inputs(stage);
    const float global_scale = shared_global_scale(plan_, full.index, stage, [&](Role role) { return weight_of(full, role); });
    GramPair sums;
    std::optional<LayerSystem> system;
    if (options_.recipe.method != Method::rtn) {
      sums = statistics(stage, full);
      system.emplace(sums.gram, sums.drift, system_options(options_.recipe));
      clock_.add("factorization", system->report().seconds, system->report().flops * 1e-9);
    }
    for (const Role role : roles) {
      if (!planned(role)) continue;
      const std::string module = module_name(full.index, role);
      const Matrix<float> weight = weight_of(full, role);
      const WeightLayout& layout = *plan_.find(module);
      const DecidedLayer layer{keep(system ? solve_on(layout, *system, module, weight, options_, global_scale, clock_)
                                           : round_on(layout, module, weight, options_, global_scale, clock_)),
                               input_scale};
      sink_.quantized(module, layer);
      runtime_.linears[static_cast<std::size_t>(role)] =
          make_dense_linear(dense_of(layer.weight), bias_of(full, role), options_.recipe.precision);
    }
  }

  void solve_head() {
    const GramPair sums = streams_.head_statistics(weights_.final_norm(), which_);
    const LayerSystem system(sums.gram, sums.drift, system_options(options_.recipe));
    sink_.quantized("lm_head", {keep(solve_on(*plan_.find("lm_head"), system, "lm_head", weights_.head(), options_, 1, clock_)), {}});
  }

 private:
  void balance(Block& full) {
    balance_.emplace(weights_, plan_, streams_, full);
    balance_->write_dense(sink_);
    full = balance_->apply(std::move(full), options_.recipe.precision);
  }

  // What the block at hand has, balanced or not.
  Matrix<float> weight_of(const Block& block, Role role) const {
    return balance_ ? balance_->weight(role) : weights_.weight(block.index, role);
  }
  std::vector<float> bias_of(const Block& block, Role role) const {
    return balance_ ? balance_->bias(role) : weights_.bias(block.index, role);
  }

  GramPair statistics(Stage stage, const Block& full) {
    const double start = seconds_now();
    GramPair sums = streams_.statistics(stage, full, runtime_, which_);
    const auto columns = static_cast<double>(sums.gram.cols() + 2 * sums.drift.cols());  // half of H is mirrored
    clock_.add(kStatistics, seconds_now() - start,
               1e-9 * static_cast<double>(sums.gram.rows()) * columns * static_cast<double>(windows_.tokens()));
    return sums;
  }

  // The run-time stream's inputs are not encoded: layers decided on encoded ones answer for noise that other
  // text will not have, and come out worse.
  std::optional<float> scale_of_inputs(Stage stage) {
    if (!options_.input_scales) return {};
    return timed(clock_, "scales of inputs", 0, [&] {
      float largest = 0;
      streams_.visit_inputs(stage, runtime_,
                            [&](MatrixView<const float> x) { largest = std::max(largest, largest_magnitude(x)); }, which_);
      return options_.recipe.scheme == Scheme::nvfp4 ? global_scale_of_maximum(largest)
                                                     : tensor_scale_for(largest, kInputHeadroom);
    });
  }

  QuantizedWeight keep(LayerDecision decision) {
    records_.push_back(std::move(decision.record));
    return std::move(decision.weight);
  }

  Matrix<float> dense_of(const QuantizedWeight& weight) const {
    Matrix<float> dense(static_cast<std::size_t>(rows_of(weight)), static_cast<std::size_t>(cols_of(weight)));
    dequantize(weight, options_.codebooks ? options_.codebooks->weights : Codebooks{}, 0, rows_of(weight), dense);
    return dense;
  }

  const Weights& weights_;
  const Plan& plan_;
  const TokenWindows& windows_;
  const WalkOptions& options_;
  const LayerSink& sink_;
  PhaseClock& clock_;
  std::vector<LayerRecord>& records_;
  Streams& streams_;
  std::size_t which_;               // of the run-time streams
  Block runtime_;                   // the block at hand, as far as it is decided
  std::optional<Balance> balance_;  // of the block at hand
};

// Takes the streams through the model, and every task along that has not failed.
class Walk {
 public:
  Walk(const Weights& weights, const TokenWindows& windows, std::span<WalkTask> tasks)
      : weights_(weights), windows_(windows), tasks_(tasks), recipe_(tasks.front().options.recipe),
        streams_(weights, windows, stream_options()) {
    for (std::size_t i = 0; i < tasks.size(); ++i) grids_.emplace_back(weights, windows, streams_, tasks[i], i);
  }

  void run() {
    const std::int64_t layers = weights_.config().layers;
    const bool head = std::any_of(tasks_.begin(), tasks_.end(), [](const WalkTask& task) { return task.plan.find("lm_head") != nullptr; });
    total_ = layers * static_cast<std::int64_t>(kStages.size()) + (head ? 1 : 0);
    for (std::int64_t layer = 0; layer < layers && running() > 0; ++layer) walk_block(layer);
    if (!head) return;
    report("lm_head");
    each([&](GridWalk& grid, WalkTask& task) {
      if (task.plan.find("lm_head")) grid.solve_head();
    });
  }

 private:
  StreamOptions stream_options() const {
    return {.runtimes = tasks_.size(),
            .reference = needs_reference(recipe_),
            .residual = recipe_.method == Method::ojbkq && recipe_.target == SolveTarget::residual,
            .precision = recipe_.precision,
            .memory = tasks_.front().options.activation_memory,
            .scratch = tasks_.front().options.scratch};
  }

  void report(const std::string& stage) {
    const ProgressCallback& progress = tasks_.front().options.progress;
    if (progress && !progress({stage, done_, total_, {}})) throw Error(ErrorCode::cancelled, "cancelled");
  }

  std::size_t running() const {
    return static_cast<std::size_t>(std::count_if(tasks_.begin(), tasks_.end(), [](const WalkTask& task) { return !task.failure; }));
  }

  // For every task that has not failed.
  template <class Work>
  void each(Work&& work) {
    for (std::size_t i = 0; i < tasks_.size(); ++i) {
      if (tasks_[i].failure) continue;
      try {
        work(grids_[i], tasks_[i]);
      } catch (const Error& error) {
        if (error.code() == ErrorCode::cancelled || tasks_.size() == 1) throw;
        tasks_[i].failure = std::current_exception();
      }
    }
  }

  void walk_block(std::int64_t layer) {
    PhaseClock& clock = tasks_.front().clock;
    Block full = timed(clock, "reading weights", 0, [&] { return weights_.block(layer, recipe_.precision); });
    each([&](GridWalk& grid, WalkTask&) { grid.begin(full); });
    for (const Stage stage : kStages) {
      report("block " + std::to_string(layer + 1) + "/" + std::to_string(weights_.config().layers));
      each([&](GridWalk& grid, WalkTask&) { grid.decide(stage, full); });
      advance(stage, full, clock);
      ++done_;
    }
  }

  void advance(Stage stage, const Block& full, PhaseClock& clock) {
    std::vector<const Block*> runtimes;
    for (std::size_t i = 0; i < tasks_.size(); ++i) runtimes.push_back(tasks_[i].failure ? nullptr : &grids_[i].runtime());
    if (running() == 0) return;
    const double streams = static_cast<double>(running()) + (needs_reference(recipe_) ? 1 : 0);
    const double gflop = stage_gflop(weights_.config(), stage, windows_.tokens()) +
                         (stage == Stage::attention_input ? attention_gflop(weights_.config(), windows_) : 0);
    timed(clock, kForward, streams * gflop, [&] { streams_.advance(stage, full, runtimes); });
  }

  const Weights& weights_;
  const TokenWindows& windows_;
  std::span<WalkTask> tasks_;
  const Recipe& recipe_;  // of the first; what streams need is the same in all
  Streams streams_;
  std::deque<GridWalk> grids_;
  std::int64_t done_ = 0, total_ = 0;
};

}  // namespace

std::vector<LayerRecord> walk(const Weights& weights, const Plan& plan, const TokenWindows& windows,
                              const WalkOptions& options, const LayerSink& sink, PhaseClock& clock) {
  WalkTask task{.plan = plan, .options = options, .sink = sink, .clock = clock};
  walk_together(weights, windows, {&task, 1});
  return std::move(task.records);
}

bool walk_alike(const Recipe& a, const Recipe& b) {
  const auto streams = [](const Recipe& r) {
    return std::tuple(needs_reference(r), r.method == Method::ojbkq && r.target == SolveTarget::residual, r.precision);
  };
  return !balances(a) && !balances(b) && streams(a) == streams(b);  // a balanced block is another block
}

void walk_together(const Weights& weights, const TokenWindows& windows, std::span<WalkTask> tasks) {
  Walk(weights, windows, tasks).run();
}

}  // namespace neap
