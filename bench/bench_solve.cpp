// Speed of the solver's parts beside the matrix products that bound them, measured in the same run.
//
//   bench_solve [INPUTS [ROWS]]      default: 576 576, 1536 576, 4096 4096
//
// Threads: OMP_NUM_THREADS. Statistics are bench data: random inputs of rank INPUTS.
#include <cblas.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "base/parallel.h"
#include "linalg/cholesky.h"
#include "linalg/gram.h"
#include "measure.h"
#include "neap/codebooks.h"
#include "quantize/lobcq.h"
#include "solve/layer.h"
#include "support/random_matrix.h"

namespace neap {
namespace {

constexpr std::size_t kTokens = 2048;

void say(const char* name, double flops, double seconds, double peak) {
  std::printf("  %-34s %9.3f s %9.1f GFLOP/s %5.0f %% of the product\n", name, seconds,
              flops / seconds * 1e-9, 100 * flops / seconds / peak);
  std::fflush(stdout);
}

double sgemm_peak(std::size_t n) {
  const Matrix<float> a = random_matrix(n, n, 1), b = random_matrix(n, n, 2);
  Matrix<float> c(n, n);
  const double flops = 2.0 * n * n * n;
  const double seconds = best_seconds(3, [&] {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, a.data(), n, b.data(), n, 0,
                c.data(), n);
  });
  std::printf("  %-34s %9.3f s %9.1f GFLOP/s\n", "cblas_sgemm n x n x n", seconds, flops / seconds * 1e-9);
  return flops / seconds;
}

void bench_gram(std::size_t n, const Matrix<float>& x) {
  Matrix<float> ahead = x;
  for (std::size_t i = 0; i < kTokens * n; ++i) ahead.data()[i] *= 0.01f;
  const double flops = static_cast<double>(kTokens) * n * (n + 1) + 2.0 * kTokens * n * n;
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    GramAccumulator sums(n, n, 1000, precision);  // all of one chunk
    std::size_t window = 0;
    const double peak = peak_speed(precision);
    sums.add(window++, x, ahead);  // pages in
    const double seconds = best_seconds(5, [&] { sums.add(window++, x, ahead); });
    say(precision == Precision::bf16 ? "gram and drift, bf16" : "gram and drift, fp32", flops, seconds, peak);
  }
}

void bench(std::size_t n, std::size_t rows) {
  std::printf("%zu inputs, %zu rows, %d threads\n", n, rows, thread_count());
  const double peak = sgemm_peak(n);
  const Matrix<float> x = random_matrix(kTokens, n, 3);
  bench_gram(n, x);
  GramAccumulator sums(n, n, 8, Precision::f32);
  for (std::size_t w = 0; w < 8; ++w) {
    const Matrix<float> runtime = random_matrix(n / 4 + 1, n, 10 + w);
    Matrix<float> ahead = runtime;
    for (std::size_t i = 0; i < runtime.rows() * n; ++i) ahead.data()[i] *= 0.05f;
    sums.add(w, runtime, ahead);
  }
  const GramPair pair = sums.finish();
  const LayerSystem system(pair.gram, pair.drift, {});
  say("factor (order, Cholesky)", system.report().flops, system.report().seconds, peak);
  const Matrix<float> weight = random_matrix(rows, n, 4);
  const GroupLayout layout{3, 64, false, DType::bf16};
  const auto greedy = solve_layer(system, weight, layout, {.paths = 0, .descent_sweeps = 0}, 1).report;
  const auto full = solve_layer(system, weight, layout, {.paths = 5, .descent_sweeps = 32}, 1).report;
  std::printf("  %-34s %9.3f s\n", "grid search", greedy.grid.seconds);
  say("targets", full.target.flops, full.target.seconds, peak);
  say("walk, greedy", greedy.walk.flops, greedy.walk.seconds, peak);
  say("walk, greedy and 5 paths", full.walk.flops, full.walk.seconds, peak);
  say("descent", full.descent.flops, full.descent.seconds, peak);
  say("evaluation in fp64", full.evaluation.flops, full.evaluation.seconds, peak);
  const CodebookSet set = universal_codebooks({});
  const LayerSystem in_blocks(pair.gram, pair.drift, {.block = static_cast<std::size_t>(set.layout.block)});
  const auto tables = solve_lobcq(in_blocks, weight, set, {}).report;
  std::printf("  LO-BCQ: scales %.3f s, walk %.3f s (%.2f times the greedy walk), descent %.3f s\n", tables.grid.seconds,
              tables.walk.seconds, tables.walk.seconds / greedy.walk.seconds, tables.descent.seconds);
  std::printf("  %lld sweeps at most, %.2f %% of codes moved\n", static_cast<long long>(full.sweeps),
              100.0 * static_cast<double>(full.moves) / static_cast<double>(rows * n));
}

}  // namespace
}  // namespace neap

int main(int argc, char** argv) {
  if (argc > 1) {
    const std::size_t n = std::strtoul(argv[1], nullptr, 10);
    neap::bench(n, argc > 2 ? std::strtoul(argv[2], nullptr, 10) : n);
    return 0;
  }
  for (const auto& [n, rows] : std::vector<std::pair<std::size_t, std::size_t>>{{576, 576}, {1536, 576}, {4096, 4096}}) {
    neap::bench(n, rows);
  }
  return 0;
}
