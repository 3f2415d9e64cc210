#include "neap/bench.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/parallel.h"
#include "base/random.h"
#include "model/loaded_model.h"
#include "neap/error.h"
#include "runtime/limits.h"

namespace neap {
namespace {

std::size_t index_of(Arithmetic arithmetic) { return static_cast<std::size_t>(arithmetic); }

// What one token takes that passes through blocks and head alone.
struct ModelCost {
  std::uint64_t block_bytes = 0, head_bytes = 0;
  double blocks[3] = {}, head[3] = {};  // products, by Arithmetic
};

void add(const Linear& linear, std::uint64_t& bytes, double (&products)[3]) {
  const LinearCost cost = linear.cost();
  bytes += cost.bytes;
  products[index_of(cost.arithmetic)] += 2.0 * static_cast<double>(linear.in() * linear.out());
}

ModelCost cost_of(LoadedModel& model) {
  ModelCost cost;
  model.visit_blocks([&](const Block& block) {
    for (const auto& linear : block.linears) add(*linear, cost.block_bytes, cost.blocks);
  });
  model.visit_head(
      [&](const Linear& part, std::size_t) { add(part, cost.head_bytes, cost.head); });
  return cost;
}

// Positions that are seen in all layers together by the tokens at `start` .. `start` + count - 1.
double visible_positions(const ModelConfig& config, std::int64_t start, std::int64_t count) {
  double sum = 0;
  for (const LayerSwitches& layer : config.switches) {
    for (std::int64_t i = start; i < start + count; ++i) {
      sum += static_cast<double>(layer.window > 0 ? std::min(layer.window, i + 1) : i + 1);
    }
  }
  return sum;
}

std::int64_t parameters_of(const ModelConfig& c) {
  const std::int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  std::int64_t block = c.hidden * (2 * q + 2 * kv + 3 * c.intermediate) + 2 * c.hidden;
  if (c.qkv_bias) block += q + 2 * kv;
  if (c.output_bias) block += c.hidden;
  if (c.mlp_bias) block += 2 * c.intermediate + c.hidden;
  if (c.qk_norm) block += 2 * c.head_dim;
  return c.layers * block + c.hidden + (c.tied_head ? 1 : 2) * c.vocabulary * c.hidden;
}

std::vector<TokenId> random_tokens(std::size_t count, std::int64_t vocabulary) {
  std::vector<TokenId> tokens(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto bits = philox({static_cast<std::uint32_t>(i), 0, 0, 0}, stream_key(0, "bench"));
    tokens[i] = static_cast<TokenId>(bits[0] % static_cast<std::uint64_t>(vocabulary));
  }
  return tokens;
}

// One test's tokens, cache and results.
class Measurement {
 public:
  Measurement(LoadedModel& model, const BenchTest& test)
      : model_(model),
        depth_(static_cast<std::size_t>(test.n_depth)),
        generates_(test.n_gen > 0),
        cache_(model.make_cache(1)),
        logits_(1, static_cast<std::size_t>(model.config().vocabulary)) {
    tokens_ = random_tokens(depth_ + static_cast<std::size_t>(test.n_prompt + test.n_gen),
                            model.config().vocabulary);
    cache_.reserve(tokens_.size());
    if (depth_ > 0) read(std::span(tokens_).first(depth_), /*with_head=*/false);
  }

  // Seconds of the first `count` tokens behind the depth.
  double run(std::size_t count) {
    cache_.truncate(0, depth_);
    const double start = wall_clock();
    const auto tokens = std::span(tokens_).subspan(depth_, count);
    const std::size_t step = generates_ ? 1 : count;
    for (std::size_t i = 0; i < count; i += step)
      model_.run_together([&] { read(tokens.subspan(i, step), true); });
    return wall_clock() - start;
  }
  std::size_t tokens() const { return tokens_.size() - depth_; }
  std::size_t position_bytes() const { return cache_.position_bytes(); }

 private:
  void read(std::span<const TokenId> tokens, bool with_head) {
    const auto hidden = static_cast<std::size_t>(model_.config().hidden);
    if (states_.rows() < tokens.size()) states_ = Matrix<float>(tokens.size(), hidden);
    const std::size_t count = tokens.size();
    model_.forward_cached(tokens, {&count, 1}, cache_, states_.view().row_range(0, count));
    if (with_head) model_.head(states_.view().row_range(tokens.size() - 1, 1), logits_);
  }

  LoadedModel& model_;
  std::size_t depth_;
  bool generates_;
  KvCache cache_;
  Matrix<float> logits_, states_;
  std::vector<TokenId> tokens_;
};

void count_work(const LoadedModel& model, const ModelCost& cost, std::size_t position_bytes,
                BenchRun& run) {
  const ModelConfig& config = model.config();
  const auto tokens = static_cast<double>(run.tokens());
  const bool generates = run.test.n_gen > 0;
  const double passes = generates ? tokens : 1;
  const double visible = visible_positions(config, run.test.n_depth, run.tokens());
  // A prompt reads each position of the cache once, however many of its tokens see it.
  const double positions =
      generates ? visible
                : static_cast<double>((run.test.n_depth + run.test.n_prompt) * config.layers);
  run.bytes = passes * static_cast<double>(cost.block_bytes + cost.head_bytes) +
              positions * static_cast<double>(position_bytes);
  for (std::size_t a = 0; a < 3; ++a) {
    run.products[a] = tokens * cost.blocks[a] + passes * cost.head[a];
  }
  run.products[index_of(arithmetic_of(model.attention_types().operand))] +=
      4.0 * static_cast<double>(config.heads * config.head_dim) * visible;
}

void check(const BenchOptions& options) {
  const auto require = [](bool holds, const char* what) {
    if (!holds) throw Error(ErrorCode::argument, what);
  };
  require(!options.tests.empty(), "nothing to measure: no prompt and no generation");
  require(options.repetitions > 0, "a test needs one repetition at least");
  for (const BenchTest& test : options.tests) {
    require(test.n_depth >= 0 && test.n_prompt >= 0 && test.n_gen >= 0 &&
                (test.n_prompt > 0) != (test.n_gen > 0),
            "a test is a prompt or a generation of one token at least");
  }
}

class Reporter {
 public:
  Reporter(const BenchOptions& options)
      : progress_(options.progress),
        total_(static_cast<std::int64_t>(options.tests.size()) * options.repetitions) {}

  void say(const std::string& stage, std::int64_t done) const {
    if (progress_ && !progress_({.stage = stage, .done = done, .total = total_})) {
      throw Error(ErrorCode::cancelled, "the measurement was cancelled");
    }
  }

 private:
  const ProgressCallback& progress_;
  std::int64_t total_;
};

MachineLimits limits_for(const std::vector<BenchRun>& runs) {
  MachineLimits limits;
  limits.read = measure_reading();
  for (const Arithmetic arithmetic : {Arithmetic::f32, Arithmetic::bf16, Arithmetic::int8}) {
    const std::size_t a = index_of(arithmetic);
    const bool used = std::any_of(runs.begin(), runs.end(),
                                  [&](const BenchRun& run) { return run.products[a] > 0; });
    if (used) limits.products[a] = measure_products(arithmetic);
  }
  return limits;
}

}  // namespace

double BenchRun::mean_seconds() const {
  return std::accumulate(seconds.begin(), seconds.end(), 0.0) / static_cast<double>(seconds.size());
}

double BenchRun::mean_speed() const {
  double sum = 0;
  for (const double s : seconds) sum += static_cast<double>(tokens()) / s;
  return sum / static_cast<double>(seconds.size());
}

double BenchRun::stddev_speed() const {
  if (seconds.size() < 2) return 0;
  const double mean = mean_speed();
  double squares = 0;
  for (const double s : seconds) squares += std::pow(static_cast<double>(tokens()) / s - mean, 2);
  return std::sqrt(squares / static_cast<double>(seconds.size() - 1));
}

double BenchRun::read_share(const MachineLimits& limits) const {
  return bytes / limits.read / mean_seconds();
}

double BenchRun::product_share(const MachineLimits& limits) const {
  double least = 0;
  for (std::size_t a = 0; a < 3; ++a) {
    if (products[a] > 0) least += products[a] / limits.products[a];
  }
  return least / mean_seconds();
}

BenchResult run_bench(LanguageModel& model, const BenchOptions& options) {
  check(options);
  LoadedModel& loaded = loaded_model(model);
  const ThreadScope threads(options.threads);
  const Reporter reporter(options);
  reporter.say("loading", 0);
  BenchResult result;
  result.threads = thread_count();
  result.parameters = parameters_of(model.config());
  const ModelCost cost = cost_of(loaded);
  result.weight_bytes = cost.block_bytes + cost.head_bytes;
  const std::size_t position_bytes = loaded.make_cache(1).position_bytes();
  for (const BenchTest& test : options.tests) {
    result.runs.push_back({.test = test});
    count_work(loaded, cost, position_bytes, result.runs.back());
  }
  reporter.say("the machine's limits", 0);
  result.limits = limits_for(result.runs);
  std::int64_t done = 0;
  for (BenchRun& run : result.runs) {
    const std::string stage = run.test.n_gen > 0 ? "generation" : "prompt";
    reporter.say(stage, done);
    Measurement measurement(loaded, run.test);
    measurement.run(run.test.n_gen > 0 ? std::min<std::size_t>(8, measurement.tokens())
                                       : measurement.tokens());
    for (int i = 0; i < options.repetitions; ++i) {
      run.seconds.push_back(measurement.run(measurement.tokens()));
      reporter.say(stage, ++done);
    }
  }
  return result;
}

}  // namespace neap
