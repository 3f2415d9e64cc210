// How fast the forward pass is, as a share of what oneDNN's own large product reaches on the same
// threads in the same run, and where the rest goes. Random weights: speed does not depend on them.
//
//   bench_forward [--length 2048] [--windows 2] [--layers 30] [--repeats 5] [--precision bf16|f32]
//                 [--cpu-time] [--generate SEQUENCES TOKENS]
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "linalg/matmul.h"
#include "measure.h"
#include "model/block.h"
#include "model/elementwise.h"
#include "model/kv_cache.h"

namespace neap {
namespace {

struct Options {
  std::size_t length = 2048, windows = 2, layers = 30, repeats = 5;
  std::size_t sequences = 0, tokens = 0;
  std::string precision = "bf16";

  std::size_t rows() const { return windows * length; }
};

ModelConfig smollm2(const Options& options) {
  ModelConfig config;
  config.family = "llama";
  config.layers = static_cast<std::int64_t>(options.layers);
  config.hidden = 576;
  config.intermediate = 1536;
  config.vocabulary = 49152;
  config.heads = 9;
  config.kv_heads = 3;
  config.head_dim = 64;
  config.switches.resize(options.layers);
  return config;
}

std::unique_ptr<Linear> random_linear(std::size_t in, std::size_t out, Precision precision,
                                      std::uint32_t seed) {
  const float scale = 1.f / std::sqrt(static_cast<float>(in));
  return make_dense_linear(uniform_matrix(out, in, scale, seed), {}, precision);
}

Block random_block(const ModelConfig& config, std::int64_t index, Precision precision) {
  const auto hidden = static_cast<std::size_t>(config.hidden);
  const auto middle = static_cast<std::size_t>(config.intermediate);
  const auto q = static_cast<std::size_t>(config.heads * config.head_dim);
  const auto kv = static_cast<std::size_t>(config.kv_heads * config.head_dim);
  const std::array<std::array<std::size_t, 2>, kRoles> shapes{{{hidden, q},
                                                               {hidden, kv},
                                                               {hidden, kv},
                                                               {q, hidden},
                                                               {hidden, middle},
                                                               {hidden, middle},
                                                               {middle, hidden}}};
  Block block;
  block.index = index;
  block.input_norm.assign(hidden, 1.f);
  block.mlp_norm.assign(hidden, 1.f);
  for (std::size_t r = 0; r < kRoles; ++r) {
    block.linears[r] =
        random_linear(shapes[r][0], shapes[r][1], precision,
                      static_cast<std::uint32_t>(index * 7) + static_cast<std::uint32_t>(r));
  }
  return block;
}

struct Model {
  ModelConfig config;
  RopeTable rope;
  std::vector<Block> blocks;
  std::unique_ptr<Linear> head;
};

Model random_model(const Options& options, Precision precision, std::size_t positions) {
  Model model{smollm2(options), {}, {}, nullptr};
  model.rope = make_rope_table(model.config, positions);
  for (std::size_t i = 0; i < options.layers; ++i) {
    model.blocks.push_back(random_block(model.config, static_cast<std::int64_t>(i), precision));
  }
  model.head = random_linear(576, 49152, precision, 12345);
  return model;
}

// Multiplications and additions of one token, all positions of a window averaged.
struct Work {
  double linears = 0, attention = 0, head = 0;  // linears and attention of one layer
};
Work work_of(const ModelConfig& config, std::size_t length) {
  Work work;
  for (const auto& linear : random_block(config, 0, Precision::f32).linears) {
    work.linears += 2.0 * static_cast<double>(linear->in() * linear->out());
  }
  work.attention = 4.0 * static_cast<double>(config.heads * config.head_dim) *
                   (static_cast<double>(length) + 1) / 2;
  work.head = 2.0 * static_cast<double>(config.hidden * config.vocabulary);
  return work;
}

// Logits are read by whoever asked for them before the next rows are computed.
void run_head(const Linear& head, MatrixView<const float> states, Matrix<float>& logits) {
  for (std::size_t first = 0; first < states.rows; first += logits.rows()) {
    const std::size_t count = std::min(logits.rows(), states.rows - first);
    head.apply(states.row_range(first, count), logits.view().row_range(0, count));
  }
}

void print_share(const std::string& name, double seconds, double flops, double total, double peak) {
  const std::string speed = flops > 0
                                ? fmt::format("{:7.1f} GFLOP/s {:5.1f} % of peak",
                                              flops / seconds / 1e9, 100 * flops / seconds / peak)
                                : "";
  fmt::print("  {:<34}{:9.2f} ms {:5.1f} %  {}\n", name, seconds * 1e3, 100 * seconds / total,
             speed);
}

// One block's steps, each alone, the best of several.
void print_breakdown(const Options& options, const Model& model, Precision precision, double peak,
                     double total) {
  const ModelConfig& config = model.config;
  const Block& block = model.blocks[0];
  const std::size_t rows = options.rows();
  const double tokens = static_cast<double>(rows);
  const Work work = work_of(config, options.length);
  Matrix<float> x = uniform_matrix(rows, 576, 1.f, 1), h(rows, 576), a(rows, 576), f(rows, 1536),
                logits(512, 49152);
  double sum = 0;
  const auto show = [&](const std::string& name, double flops, double times,
                        const std::function<void()>& step) {
    const double seconds = times * best_seconds(3 * options.repeats, step);
    sum += seconds;
    print_share(name, seconds, flops * times * tokens, total, peak);
  };
  const double layers = static_cast<double>(options.layers);
  const auto linear_flops = [&](Role role) {
    return 2.0 * static_cast<double>(block.linear(role).in() * block.linear(role).out());
  };
  show("norms (two)", 0, 2 * layers, [&] { attention_input(config, block, x, h); });
  Matrix<float> q(rows, 576), kv(rows, 192);
  const double qkv = layers * best_seconds(3 * options.repeats, [&] {
                       block.linear(Role::q).apply(h, q);
                       block.linear(Role::k).apply(h, kv);
                       block.linear(Role::v).apply(h, kv);
                     });
  const double qkv_flops = linear_flops(Role::q) + linear_flops(Role::k) + linear_flops(Role::v);
  print_share("q, k, v", qkv, qkv_flops * layers * tokens, total, peak);
  const double attended = layers * best_seconds(3 * options.repeats, [&] {
                            attention(config, block, model.rope, precision, options.length, h, a);
                          });
  sum += attended;
  print_share("rope, softmax, its two products", attended - qkv, work.attention * layers * tokens,
              total, peak);
  show("o, sum", linear_flops(Role::o), layers, [&] { add_attention(block, a, x); });
  const double gate_up = layers * best_seconds(3 * options.repeats, [&] {
                           block.linear(Role::gate).apply(h, f);
                           block.linear(Role::up).apply(h, f);
                         });
  print_share("(gate, up alone)", gate_up, 2 * linear_flops(Role::gate) * layers * tokens, total,
              peak);
  show("gate, up, silu", 2 * linear_flops(Role::gate), layers, [&] { mlp_hidden(block, h, f); });
  show("down, sum", linear_flops(Role::down), layers, [&] { add_mlp(block, f, x); });
  show("head", work.head, 1, [&] { run_head(*model.head, h, logits); });
  print_share("sum", sum, 0, total, peak);
}

void bench_windows(const Options& options, Precision precision) {
  const double peak = peak_speed(precision);
  fmt::print("{}: oneDNN's own product {:.1f} GFLOP/s on {} threads\n", options.precision,
             peak / 1e9, thread_count());
  const Model model = random_model(options, precision, options.length);
  const Work work = work_of(model.config, options.length);
  const Matrix<float> start = uniform_matrix(options.rows(), 576, 1.f, 99);
  Matrix<float> x = start, logits(512, 49152);
  const double seconds = best_seconds(options.repeats, [&] {
    std::copy(start.data(), start.data() + start.rows() * start.cols(), x.data());
    for (const Block& block : model.blocks) {
      forward_block(model.config, block, model.rope, precision, options.length, x);
    }
    run_head(*model.head, x, logits);
  });
  const double tokens = static_cast<double>(options.rows());
  const double flops =
      tokens * (static_cast<double>(options.layers) * (work.linears + work.attention) + work.head);
  fmt::print("{} windows of {} tokens, {} layers and head: {:.0f} tokens/s\n", options.windows,
             options.length, options.layers, tokens / seconds);
  print_share("whole pass", seconds, flops, seconds, peak);
  print_breakdown(options, model, precision, peak, seconds);
  const double again = peak_speed(precision);
  fmt::print("oneDNN's own product afterwards: {:.1f} GFLOP/s\n", again / 1e9);
}

void bench_generation(const Options& options, Precision precision) {
  const Model model = random_model(options, precision, options.tokens);
  const AttentionTypes types(precision);
  KvCache cache(model.config, types.kept, options.sequences);
  cache.reserve(options.tokens);
  std::vector<Segment> segments;
  for (std::size_t s = 0; s < options.sequences; ++s) segments.push_back({s, s, 0, 1});
  const Matrix<float> start = uniform_matrix(options.sequences, 576, 1.f, 99);
  Matrix<float> x = start, logits(options.sequences, 49152);
  double blocks = 0, head = 0;
  for (std::size_t t = 0; t < options.tokens; ++t) {
    x = start;
    blocks += seconds_of([&] {
      for (const Block& block : model.blocks)
        forward_block_cached(model.config, block, model.rope, types.operand, cache, segments, x);
    });
    for (Segment& segment : segments) ++segment.start;
    head += seconds_of([&] { model.head->apply(x, logits); });
    if ((t + 1) % 128 == 0 || t + 1 == options.tokens) {
      fmt::print("{} x {} tokens: blocks {:.2f} s, head {:.2f} s, {:.0f} tokens/s so far\n",
                 options.sequences, t + 1, blocks, head,
                 static_cast<double>(options.sequences * (t + 1)) / (blocks + head));
      std::fflush(stdout);
    }
  }
}

int run(int argc, char** argv) {
  Options options;
  std::vector<std::size_t> generate;
  CLI::App app("Speed of the forward pass");
  app.add_option("--length", options.length);
  app.add_option("--windows", options.windows);
  app.add_option("--layers", options.layers);
  app.add_option("--repeats", options.repeats);
  app.add_option("--precision", options.precision)->check(CLI::IsMember({"bf16", "f32"}));
  app.add_flag("--cpu-time", count_cpu_time,
               "CPU time over threads; needs OMP_WAIT_POLICY=passive");
  app.add_option("--generate", generate, "sequences and tokens each, in place of windows")
      ->expected(2);
  CLI11_PARSE(app, argc, argv);
  const Precision precision = options.precision == "bf16" ? Precision::bf16 : Precision::f32;
  if (generate.empty()) {
    bench_windows(options, precision);
  } else {
    options.sequences = generate[0];
    options.tokens = generate[1];
    bench_generation(options, precision);
  }
  return 0;
}

}  // namespace
}  // namespace neap

int main(int argc, char** argv) { return neap::run(argc, argv); }
