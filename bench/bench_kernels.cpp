// Packed kernels over weights that no cache holds: time, GOP/s, GB/s of packed weights, and their
// shares of this machine's limits on the same threads.
//
//   OMP_NUM_THREADS=2 bench_kernels [Google Benchmark's options]
//
// Names: KERNEL/ISA/ROWSxCOLS/TOKENS, and /and_inputs where encoding the activations counts too.
// The limits come first: memory read, the int8 and bf16 dot product instructions alone, oneDNN's
// int8 and bf16 products.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "codec/lobcq_support.h"
#include "codec/random_tensor.h"
#include "dot_product_limit.h"
#include "kernels/group_matmul.h"
#include "kernels/lobcq_matmul.h"
#include "measure.h"
#include "support/random_matrix.h"

namespace neap {
namespace {

constexpr std::size_t kDistinctBytes = std::size_t{128} << 20;

struct Limits {
  double memory, int8_instruction, bf16_instruction, int8_product, bf16_product;
};

// Operations a second on all threads.
double instruction_speed(double (*run)(std::int64_t)) {
  constexpr std::int64_t kRounds = 1 << 21;
  const auto threads = static_cast<std::size_t>(thread_count());
  double operations = 0;
  const double seconds = best_seconds(5, [&] {
    std::vector<double> done(threads);
    parallel_for(threads, [&](std::size_t t) { done[t] = run(kRounds); });
    operations = 0;
    for (const double n : done) operations += n;
  });
  return operations / seconds;
}

Limits measure_limits() {
  const bool avx512 = supported_isas().back() >= Isa::avx512;
  const bool bf16 = supported_isas().back() >= Isa::avx512bf16;
  return {measure_reading(now), avx512 ? instruction_speed(run_int8_dot_products) : 0,
          bf16 ? instruction_speed(run_bf16_dot_products) : 0,
          measure_products(Arithmetic::int8, now), peak_speed(Precision::bf16)};
}

struct Size {
  std::size_t rows, cols;
};

// Packed weights of one size, again and again until no cache holds them.
template <class Packed>
class Weights {
 public:
  template <class Make>
  explicit Weights(const Make& make) {
    do {
      packed_.push_back(make());
    } while (packed_.size() * packed_.back()->bytes() < kDistinctBytes);
  }
  const Packed& next() { return *packed_[at_++ % packed_.size()]; }

 private:
  std::vector<std::unique_ptr<const Packed>> packed_;
  std::size_t at_ = 0;
};

void count(benchmark::State& state, const Limits& limits, Size size, std::size_t tokens,
           std::size_t bytes, double product_limit) {
  const auto rounds = static_cast<double>(state.iterations());
  const double operations = 2.0 * static_cast<double>(size.rows * size.cols * tokens);
  const auto rate = [](double value) {
    return benchmark::Counter(value, benchmark::Counter::kIsRate);
  };
  state.counters["GOPs"] = rate(1e-9 * operations * rounds);
  state.counters["GBs"] = rate(1e-9 * static_cast<double>(bytes) * rounds);
  state.counters["of_memory"] = rate(static_cast<double>(bytes) * rounds / limits.memory);
  state.counters["of_product"] = rate(operations * rounds / product_limit);
}

// How a kernel is fed: what it needs of x, made anew in every round or once.
template <class Packed, class Inputs, class Prepare>
void run(benchmark::State& state, const Limits& limits, Size size, std::size_t tokens, Isa isa,
         bool prepare_always, Weights<Packed>& weights, Inputs& inputs, const Prepare& prepare) {
  Matrix<float> y(tokens, size.rows);
  prepare();
  for (auto _ : state) {
    if (prepare_always) prepare();
    multiply(weights.next(), inputs, {}, y, isa);
    benchmark::DoNotOptimize(y.data());
  }
  count(state, limits, size, tokens, weights.next().bytes(), limits.int8_product);
}

enum class Kernel { lobcq, lobcq_int8, int4_32, int4_64, int3_64, int2_64, int8_64 };
constexpr std::pair<Kernel, const char*> kKernels[] = {
    {Kernel::lobcq, "lobcq"},     {Kernel::lobcq_int8, "lobcq_w4a8"}, {Kernel::int4_32, "w4g32a8"},
    {Kernel::int4_64, "w4g64a8"}, {Kernel::int3_64, "w3g64a8"},       {Kernel::int2_64, "w2g64a8"},
    {Kernel::int8_64, "w8g64a8"}};

GroupLayout layout_of(Kernel kernel) {
  GroupLayout layout{.bits = 4, .group = 64};
  if (kernel == Kernel::int4_32) layout.group = 32;
  if (kernel == Kernel::int3_64) layout.bits = 3;
  if (kernel == Kernel::int2_64) layout.bits = 2;
  if (kernel == Kernel::int8_64) layout.bits = 8;
  return layout;
}

void run_lobcq(benchmark::State& state, const Limits& limits, Size size, std::size_t tokens,
               Isa isa, bool prepare_always, bool int8) {
  const LobcqLayout layout;
  const CodebookSet books = universal_codebooks(layout);
  const LobcqTensor tensor = random_lobcq(layout, static_cast<std::int64_t>(size.rows),
                                          static_cast<std::int64_t>(size.cols), 1);
  Weights<PackedLobcq> weights(
      [&] { return std::make_unique<PackedLobcq>(tensor, books.weights); });
  const LobcqEncoder encoder(layout, books.activations, isa);
  const Matrix<float> x = random_matrix(tokens, size.cols, 2);
  if (int8) {
    Int8Inputs inputs;
    run(state, limits, size, tokens, isa, prepare_always, weights, inputs,
        [&] { inputs.round(weights.next().int8_blocks(), x, isa); });
  } else {
    LobcqInputs inputs;
    run(state, limits, size, tokens, isa, prepare_always, weights, inputs,
        [&] { inputs.encode(encoder, 0.0078125f, x, isa); });
  }
}

void run_group(benchmark::State& state, const Limits& limits, Size size, std::size_t tokens,
               Isa isa, bool prepare_always, const GroupLayout& layout) {
  const QuantizedTensor tensor = random_tensor(layout, static_cast<std::int64_t>(size.rows),
                                               static_cast<std::int64_t>(size.cols), 1);
  Weights<PackedGroupInt> weights([&] { return std::make_unique<PackedGroupInt>(tensor); });
  const Matrix<float> x = random_matrix(tokens, size.cols, 2);
  Int8Inputs inputs;
  run(state, limits, size, tokens, isa, prepare_always, weights, inputs,
      [&] { inputs.round(weights.next().int8_blocks(), x, isa); });
}

void run_kernel(benchmark::State& state, const Limits& limits, Size size, std::size_t tokens,
                Isa isa, bool prepare_always, Kernel kernel) {
  const bool int8 = kernel == Kernel::lobcq_int8;
  if (int8 || kernel == Kernel::lobcq)
    return run_lobcq(state, limits, size, tokens, isa, prepare_always, int8);
  run_group(state, limits, size, tokens, isa, prepare_always, layout_of(kernel));
}

void register_all(const Limits& limits) {
  constexpr Size kSizes[] = {{576, 576},   {192, 576},   {1536, 576},  {576, 1536},
                             {49152, 576}, {4096, 4096}, {14336, 4096}};
  for (const auto& [kernel, kernel_name] : kKernels) {
    for (const Isa isa : supported_isas()) {
      if (integer_kernels(isa).isa != isa) continue;  // those of another level would run
      for (const Size size : kSizes) {
        for (const std::size_t tokens : {std::size_t{1}, std::size_t{4}, std::size_t{512}}) {
          if (isa == Isa::scalar && tokens > 1) continue;
          for (const bool prepare : {false, true}) {
            const std::string name = std::string(kernel_name) + "/" + std::string(name_of(isa)) +
                                     "/" + std::to_string(size.rows) + "x" +
                                     std::to_string(size.cols) + "/" + std::to_string(tokens) +
                                     (prepare ? "/and_inputs" : "");
            const Kernel which = kernel;
            benchmark::RegisterBenchmark(name.c_str(), [=, &limits](benchmark::State& state) {
              run_kernel(state, limits, size, tokens, isa, prepare, which);
            })->UseRealTime();
          }
        }
      }
    }
  }
}

int run(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  const Limits limits = measure_limits();
  std::printf(
      "%d threads: memory read %.1f GB/s; GOP/s: vpdpbusd %.0f, vdpbf16ps %.0f, oneDNN int8 "
      "%.0f, oneDNN bf16 %.0f\n",
      thread_count(), 1e-9 * limits.memory, 1e-9 * limits.int8_instruction,
      1e-9 * limits.bf16_instruction, 1e-9 * limits.int8_product, 1e-9 * limits.bf16_product);
  register_all(limits);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace neap

int main(int argc, char** argv) { return neap::run(argc, argv); }
