// How fast a model runs here, beside what the machine could do at most.
#pragma once

#include <cstdint>
#include <vector>

#include "neap/model.h"
#include "neap/progress.h"

namespace neap {

// What is measured, in llama-bench's terms: a prompt of n_prompt tokens at once with the head of its
// last, or n_gen tokens one after another with a head each. One of the two is 0. Either stands behind
// n_depth tokens that are in the cache already and do not count.
struct BenchTest {
  std::int64_t n_prompt = 0, n_gen = 0, n_depth = 0;
};

struct BenchOptions {
  std::vector<BenchTest> tests = {};
  int repetitions = 5;
  int threads = 0;  // 0: OpenMP's default
  ProgressCallback progress = {};
};

// Measured on the threads that the tests run on. Per second; 0: not asked for.
struct MachineLimits {
  double read = 0;  // bytes from memory
  // Multiplications and additions of oneDNN's own large product in each arithmetic, by
  // static_cast<std::size_t>(Arithmetic).
  double products[3] = {};
};

struct BenchRun {
  BenchTest test;
  std::vector<double> seconds = {};  // of each repetition
  // What a repetition cannot do without: bytes of weights (once a pass) and of cached keys and values;
  // multiplications and additions of the linear layers, the head and attention, by Arithmetic.
  double bytes = 0;
  double products[3] = {};

  std::int64_t tokens() const { return test.n_prompt + test.n_gen; }
  double all_products() const { return products[0] + products[1] + products[2]; }
  double mean_seconds() const;
  // Of the repetitions' tokens per second; the standard deviation has n - 1 below, 0 for one.
  double mean_speed() const, stddev_speed() const;
  // The time that the machine's limit would take over the time taken: of reading `bytes`, and of
  // computing `products`.
  double read_share(const MachineLimits& limits) const;
  double product_share(const MachineLimits& limits) const;
};

struct BenchResult {
  int threads = 0;
  std::int64_t parameters = 0;     // a tied head counts once
  std::uint64_t weight_bytes = 0;  // that a pass over blocks and head reads
  MachineLimits limits;
  std::vector<BenchRun> runs;  // one per test
};

// The machine's limits, then each test once to warm up and `repetitions` times. Nothing is sampled;
// tokens are random. `model` must come from load_model. Throws Error(argument) for senseless tests,
// Error(cancelled).
BenchResult run_bench(LanguageModel& model, const BenchOptions& options);

}  // namespace neap
