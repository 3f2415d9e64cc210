#include "quantize/walk.h"

#include <algorithm>

#include "base/random.h"
#include "neap/error.h"
#include "solve/layer.h"

namespace neap {
namespace {

constexpr const char* kStatistics = "statistics";
constexpr const char* kForward = "forward passes";

SystemOptions system_options(const Recipe& recipe) {
  const bool joint = recipe.method == Method::ojbkq;
  const Order order = recipe.order == SolveOrder::activation ? Order::gram_diagonal
                      : recipe.order == SolveOrder::backward ? Order::last_to_first
                                                             : Order::first_to_last;
  return {.target_mix = joint ? recipe.target_mix : 1.0,
          .ridge = recipe.ridge,
          .order = order,
          .masked_target = recipe.method == Method::gptaq};
}

SolveOptions solve_options(const Recipe& recipe) {
  SolveOptions options;
  const bool joint = recipe.method == Method::ojbkq;
  options.paths = joint ? recipe.paths : 0;
  options.descent_sweeps = joint ? recipe.descent_sweeps : 0;
  return options;
}

bool needs_reference(const Recipe& recipe) {
  return recipe.method == Method::gptaq ||
         (recipe.method == Method::ojbkq && recipe.target_mix < 1);
}

LayerRecord record_of(const std::string& module, const LayerSystem& system, const QuantizedWeight& weight,
                      const LayerReport& r) {
  LayerRecord record = plain_record(module, weight);
  record.objective_rounding = r.objective_rounding;
  record.objective_greedy = r.objective_greedy;
  record.objective_paths = r.objective_paths;
  record.objective_descent = r.objective_descent;
  record.relative_error = r.relative_error;
  record.damping = system.report().relative_damping;
  record.factorizations = system.report().attempts;
  record.dead_inputs = system.report().dead_inputs;
  record.near_dead_inputs = system.report().near_dead_inputs;
  record.rows_won = r.rows_won;
  record.coordinates_sampled = r.coordinates_sampled;
  record.sweeps = r.sweeps;
  record.moves = r.moves;
  record.unsettled_rows = r.unsettled_rows;
  record.seconds = r.grid.seconds + r.target.seconds + r.walk.seconds + r.descent.seconds + r.evaluation.seconds;
  return record;
}

void book(PhaseClock& clock, const char* name, const StageCost& cost) {
  clock.add(name, cost.seconds, cost.flops * 1e-9);
}

void book(PhaseClock& clock, const LayerReport& report) {
  book(clock, "grid search", report.grid);
  book(clock, "targets", report.target);
  book(clock, "lattice walk", report.walk);
  book(clock, "descent", report.descent);
  book(clock, "objectives in fp64", report.evaluation);
}

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

class Walk {
 public:
  Walk(const Weights& weights, const Plan& plan, const TokenWindows& windows, const WalkOptions& options,
       const LayerSink& sink, PhaseClock& clock)
      : weights_(weights), plan_(plan), windows_(windows), options_(options), sink_(sink), clock_(clock),
        reference_(needs_reference(options.recipe)),
        streams_(weights, windows,
                 {.reference = reference_,
                  .residual = options.recipe.method == Method::ojbkq &&
                              options.recipe.target == SolveTarget::residual,
                  .precision = options.recipe.precision,
                  .memory = options.activation_memory,
                  .scratch = options.scratch}) {}

  std::vector<LayerRecord> run() {
    const std::int64_t layers = weights_.config().layers;
    const std::int64_t head = plan_.find("lm_head") ? 1 : 0;
    total_ = layers * static_cast<std::int64_t>(kStages.size()) + head;
    for (std::int64_t layer = 0; layer < layers; ++layer) walk_block(layer);
    if (head) solve_head();
    return std::move(records_);
  }

 private:
  void report(const std::string& stage, const std::string& note = {}) {
    if (options_.progress && !options_.progress({stage, done_, total_, note})) {
      throw Error(ErrorCode::cancelled, "cancelled");
    }
  }

  void walk_block(std::int64_t layer) {
    const Block full = timed(clock_, "reading weights", 0,
                             [&] { return weights_.block(layer, options_.recipe.precision); });
    Block runtime = full;
    for (const Stage stage : kStages) {
      report("block " + std::to_string(layer + 1) + "/" + std::to_string(weights_.config().layers));
      decide(stage, full, runtime);
      const double streams = reference_ ? 2 : 1;
      const double gflop = stage_gflop(weights_.config(), stage, windows_.tokens()) +
                           (stage == Stage::attention_input ? attention_gflop(weights_.config(), windows_) : 0);
      timed(clock_, kForward, streams * gflop, [&] { streams_.advance(stage, full, runtime); });
      ++done_;
    }
  }

  void decide(Stage stage, const Block& full, Block& runtime) {
    const auto& roles = roles_of(stage);
    const auto planned = [&](Role role) { return plan_.find(module_name(full.index, role)) != nullptr; };
    if (std::none_of(roles.begin(), roles.end(), planned)) return;
    const double start = seconds_now();
    const GramPair sums = streams_.statistics(stage, full, runtime);
    const auto columns = static_cast<double>(sums.gram.cols() + 2 * sums.drift.cols());  // half of H is mirrored
    clock_.add(kStatistics, seconds_now() - start,
               1e-9 * static_cast<double>(sums.gram.rows()) * columns * static_cast<double>(windows_.tokens()));
    const LayerSystem system(sums.gram, sums.drift, system_options(options_.recipe));
    clock_.add("factorization", system.report().seconds, system.report().flops * 1e-9);
    for (const Role role : roles) {
      if (!planned(role)) continue;
      const std::string module = module_name(full.index, role);
      const QuantizedWeight weight = solve(system, module, weights_.weight(full.index, role));
      const Matrix<float> dense = dense_of(weight);
      runtime.linears[static_cast<std::size_t>(role)] =
          make_dense_linear(dense, weights_.bias(full.index, role), options_.recipe.precision);
    }
  }

  QuantizedWeight solve(const LayerSystem& system, const std::string& module, const Matrix<float>& weight) {
    LayerSolution solution = solve_layer(system, weight, std::get<GroupLayout>(*plan_.find(module)),
                                         solve_options(options_.recipe), stream_key(options_.recipe.seed, module));
    DecidedLayer layer{std::move(solution.tensor), {}};
    book(clock_, solution.report);
    records_.push_back(record_of(module, system, layer.weight, solution.report));
    sink_.quantized(module, layer);
    return std::move(layer.weight);
  }

  void solve_head() {
    report("lm_head");
    const GramPair sums = streams_.head_statistics(weights_.final_norm());
    const LayerSystem system(sums.gram, sums.drift, system_options(options_.recipe));
    solve(system, "lm_head", weights_.head());
  }

  static Matrix<float> dense_of(const QuantizedWeight& weight) {
    Matrix<float> dense(static_cast<std::size_t>(rows_of(weight)), static_cast<std::size_t>(cols_of(weight)));
    dequantize(weight, {}, 0, rows_of(weight), dense);
    return dense;
  }

  const Weights& weights_;
  const Plan& plan_;
  const TokenWindows& windows_;
  const WalkOptions& options_;
  const LayerSink& sink_;
  PhaseClock& clock_;
  bool reference_;
  Streams streams_;
  std::vector<LayerRecord> records_;
  std::int64_t done_ = 0, total_ = 0;
};

}  // namespace

LayerRecord plain_record(const std::string& module, const QuantizedWeight& weight) {
  LayerRecord record;
  record.module = module;
  record.layout = layout_of(weight);
  record.rows = rows_of(weight);
  record.cols = cols_of(weight);
  return record;
}

std::vector<LayerRecord> walk(const Weights& weights, const Plan& plan, const TokenWindows& windows,
                              const WalkOptions& options, const LayerSink& sink, PhaseClock& clock) {
  return Walk(weights, plan, windows, options, sink, clock).run();
}

std::vector<LayerRecord> round_all(const Weights& weights, const Plan& plan, const WalkOptions& options,
                                   const LayerSink& sink, PhaseClock& clock) {
  std::vector<LayerRecord> records;
  const auto round_one = [&](const std::string& module, const Matrix<float>& weight) {
    const double start = seconds_now();
    const QuantizedTensor tensor = round_to_nearest(weight, std::get<GroupLayout>(*plan.find(module)));
    LayerRecord record = plain_record(module, tensor);
    record.seconds = seconds_now() - start;
    clock.add("rounding", record.seconds);
    records.push_back(record);
    sink.quantized(module, {tensor, {}});
  };
  const ModelConfig& config = weights.config();
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    const std::string stage = "block " + std::to_string(layer + 1) + "/" + std::to_string(config.layers);
    if (options.progress && !options.progress({stage, layer, config.layers})) {
      throw Error(ErrorCode::cancelled, "cancelled");
    }
    for (std::size_t r = 0; r < kRoles; ++r) {
      const std::string module = module_name(layer, static_cast<Role>(r));
      if (plan.find(module)) round_one(module, weights.weight(layer, static_cast<Role>(r)));
    }
  }
  if (plan.find("lm_head")) round_one("lm_head", weights.head());
  return records;
}

}  // namespace neap
