#include "quantize/layer_decision.h"

#include "base/random.h"
#include "codec/lobcq_encode.h"
#include "quantize/block_scaled.h"
#include "quantize/gguf.h"
#include "quantize/lobcq.h"
#include "quantize/naming.h"
#include "solve/layer.h"

namespace neap {
namespace {

SolveOptions solve_options(const Recipe& recipe) {
  SolveOptions options;
  const bool joint = recipe.method == Method::ojbkq;
  options.paths = joint ? recipe.paths : 0;
  options.descent_sweeps = joint ? recipe.descent_sweeps : 0;
  options.refits = joint ? recipe.refits : 0;
  return options;
}

LayerRecord record_of(const std::string& module, const LayerSystem& system, const QuantizedWeight& weight,
                      const LayerReport& r) {
  LayerRecord record = plain_record(module, weight);
  record.objective_rounding = r.objective_rounding;
  record.objective_greedy = r.objective_greedy;
  record.objective_paths = r.objective_paths;
  record.objective_descent = r.objective_descent;
  record.objective_refit = r.objective_refit;
  record.refitted = r.refitted;
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
  record.seconds = r.grid.seconds + r.target.seconds + r.walk.seconds + r.descent.seconds + r.refit.seconds +
                   r.evaluation.seconds;
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
  if (report.refit.seconds > 0) book(clock, "refits", report.refit);
  book(clock, "objectives in fp64", report.evaluation);
}

QuantizedWeight round_weight(const std::string& module, const Matrix<float>& weight, const WeightLayout& layout,
                             const WalkOptions& options, float global_scale) {
  if (std::holds_alternative<LobcqLayout>(layout)) {
    return round_to_lobcq(weight, *options.codebooks,
                          options.recipe.lobcq.scales);
  }
  require_finite(weight);
  std::span<const float> importance;
  if (options.importances) importance = options.importances->modules.at(module);
  if (const auto* fp4 = std::get_if<Fp4Layout>(&layout)) return round_to_fp4(weight, *fp4, global_scale);
  if (const auto* blocks = std::get_if<GgufLayout>(&layout)) return round_to_gguf(weight, *blocks, importance);
  const auto& grid = std::get<GroupLayout>(layout);
  return options.recipe.scheme == Scheme::int4 ? round_to_int4(weight, grid) : round_to_nearest(weight, grid, GridSearch::weighted, importance);
}

struct Solved {
  QuantizedWeight weight;
  LayerReport report;
};

Solved solve_weight(const WeightLayout& layout, const LayerSystem& system, const std::string& module, const Matrix<float>& weight,
                    const WalkOptions& options, float global_scale) {
  const SolveOptions how = solve_options(options.recipe);
  const std::uint64_t key = stream_key(options.recipe.seed, module);
  if (const auto* grid = std::get_if<GroupLayout>(&layout)) {
    LayerSolution solution = solve_layer(system, weight, *grid, how, key);
    return {std::move(solution.tensor), std::move(solution.report)};
  }
  if (const auto* fp4 = std::get_if<Fp4Layout>(&layout)) {
    Fp4Solution solution = solve_fp4(system, weight, *fp4, global_scale, how);
    return {std::move(solution.tensor), std::move(solution.report)};
  }
  if (const auto* blocks = std::get_if<GgufLayout>(&layout)) {
    GgufSolution solution = solve_gguf(system, weight, *blocks, how, key);
    return {std::move(solution.tensor), std::move(solution.report)};
  }
  LobcqSolution solution = solve_lobcq(system, weight, *options.codebooks, how);
  return {std::move(solution.tensor), std::move(solution.report)};
}

}  // namespace

SystemOptions system_options(const Recipe& recipe) {
  const bool joint = recipe.method == Method::ojbkq;
  const Order order = recipe.order == SolveOrder::activation ? Order::gram_diagonal
                      : recipe.order == SolveOrder::backward ? Order::last_to_first
                                                             : Order::first_to_last;
  return {.target_mix = joint ? recipe.target_mix : 1.0,
          .ridge = recipe.ridge,
          .order = order,
          .block = recipe.scheme == Scheme::lobcq ? static_cast<std::size_t>(recipe.lobcq.layout.block) : 1,
          .masked_target = recipe.method == Method::gptaq};
}

LayerRecord plain_record(const std::string& module, const QuantizedWeight& weight) {
  LayerRecord record;
  record.module = module;
  record.layout = layout_of(weight);
  record.rows = rows_of(weight);
  record.cols = cols_of(weight);
  return record;
}

LayerDecision solve_on(const WeightLayout& layout, const LayerSystem& system, const std::string& module, const Matrix<float>& weight,
                       const WalkOptions& options, float global_scale, PhaseClock& clock) {
  Solved solved;
  naming(module, [&] { solved = solve_weight(layout, system, module, weight, options, global_scale); });
  book(clock, solved.report);
  LayerRecord record = record_of(module, system, solved.weight, solved.report);
  return {std::move(solved.weight), std::move(record)};
}

LayerDecision round_on(const WeightLayout& layout, const std::string& module, const Matrix<float>& weight, const WalkOptions& options,
                       float global_scale, PhaseClock& clock) {
  const double start = seconds_now();
  QuantizedWeight rounded = naming(module, [&] { return round_weight(module, weight, layout, options, global_scale); });
  LayerRecord record = plain_record(module, rounded);
  record.seconds = seconds_now() - start;
  clock.add("rounding", record.seconds);
  return {std::move(rounded), std::move(record)};
}

}  // namespace neap
