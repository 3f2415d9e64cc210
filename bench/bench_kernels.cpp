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

#include "base/parallel.h"
#include "codec/fp4_support.h"
#include "codec/lobcq_support.h"
#include "codec/random_tensor.h"
#include "dot_product_limit.h"
#include "kernels/bf16_matmul.h"
#include "kernels/fp4_matmul.h"
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

enum class Inputs { lobcq, int8, bf16 };

enum class Kind { lobcq, groups, nvfp4, mxfp4 };

struct Format {
  const char* name;
  Inputs inputs;
  Kind kind;
  int bits = 0;  // of groups
  std::int64_t group = 0;
};
constexpr Format kFormats[] = {
    {"lobcq", Inputs::lobcq, Kind::lobcq},
    {"lobcq_w4a8", Inputs::int8, Kind::lobcq},
    {"w4g32a8", Inputs::int8, Kind::groups, 4, 32},
    {"w4g64a8", Inputs::int8, Kind::groups, 4, 64},
    {"w3g64a8", Inputs::int8, Kind::groups, 3, 64},
    {"w2g64a8", Inputs::int8, Kind::groups, 2, 64},
    {"w8g64a8", Inputs::int8, Kind::groups, 8, 64},
    {"nvfp4a8", Inputs::int8, Kind::nvfp4},
    {"mxfp4a8", Inputs::int8, Kind::mxfp4},
    {"lobcq_w4a16", Inputs::bf16, Kind::lobcq},
    {"w4g64a16", Inputs::bf16, Kind::groups, 4, 64},
    {"w4g128a16", Inputs::bf16, Kind::groups, 4, 128},
    {"w3g64a16", Inputs::bf16, Kind::groups, 3, 64},
    {"w2g64a16", Inputs::bf16, Kind::groups, 2, 64},
    {"w8g64a16", Inputs::bf16, Kind::groups, 8, 64},
    {"nvfp4a16", Inputs::bf16, Kind::nvfp4},
    {"mxfp4a16", Inputs::bf16, Kind::mxfp4}};

struct Case {
  Format format;
  Size size;
  std::size_t tokens;
  Isa isa;
  bool prepare_always;  // what the kernel needs of x, in every round
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

template <class Packed, class Prepare, class Multiply>
void run(benchmark::State& state, const Limits& limits, const Case& c, Weights<Packed>& weights,
         double product_limit, const Prepare& prepare, const Multiply& multiply_one) {
  Matrix<float> y(c.tokens, c.size.rows);
  prepare(weights.next());
  with_team([&] {  // as in a pass of a model
    for (auto _ : state) {
      const Packed& next = weights.next();
      if (c.prepare_always) prepare(next);
      multiply_one(next, y);
      benchmark::DoNotOptimize(y.data());
    }
  });
  count(state, limits, c.size, c.tokens, weights.next().bytes(), product_limit);
}

// On activations in 8 bits or bf16, any weights.
template <class Packed>
void run_rounded(benchmark::State& state, const Limits& limits, const Case& c,
                 Weights<Packed>& weights) {
  const Matrix<float> x = random_matrix(c.tokens, c.size.cols, 2);
  if (c.format.inputs == Inputs::int8) {
    Int8Inputs inputs;
    run(
        state, limits, c, weights, limits.int8_product,
        [&](const Packed& w) { inputs.round(w.int8_blocks(), x, c.isa); },
        [&](const Packed& w, MatrixView<float> y) { multiply(w, inputs, {}, y, c.isa); });
  } else {
    Bf16Inputs inputs;
    run(
        state, limits, c, weights, limits.bf16_product,
        [&](const Packed& w) { inputs.round(w.bf16_block(), x, c.isa); },
        [&](const Packed& w, MatrixView<float> y) { multiply(w, inputs, {}, y); });
  }
}

void run_lobcq(benchmark::State& state, const Limits& limits, const Case& c) {
  const LobcqLayout layout;
  const CodebookSet books = universal_codebooks(layout);
  const LobcqTensor tensor = random_lobcq(layout, static_cast<std::int64_t>(c.size.rows),
                                          static_cast<std::int64_t>(c.size.cols), 1);
  Weights<PackedLobcq> weights(
      [&] { return std::make_unique<PackedLobcq>(tensor, books.weights); });
  if (c.format.inputs != Inputs::lobcq) return run_rounded(state, limits, c, weights);
  const LobcqEncoder encoder(layout, books.activations, c.isa);
  const Matrix<float> x = random_matrix(c.tokens, c.size.cols, 2);
  LobcqInputs inputs;
  run(
      state, limits, c, weights, limits.int8_product,
      [&](const PackedLobcq&) { inputs.encode(encoder, 0.0078125f, ScaleChoice::maximum, x, c.isa); },
      [&](const PackedLobcq& w, MatrixView<float> y) { multiply(w, inputs, {}, y, c.isa); });
}

void run_group(benchmark::State& state, const Limits& limits, const Case& c) {
  const GroupLayout layout{.bits = c.format.bits, .group = c.format.group};
  const QuantizedTensor tensor = random_tensor(layout, static_cast<std::int64_t>(c.size.rows),
                                               static_cast<std::int64_t>(c.size.cols), 1);
  Weights<PackedGroupInt> weights([&] { return std::make_unique<PackedGroupInt>(tensor); });
  run_rounded(state, limits, c, weights);
}

void run_fp4(benchmark::State& state, const Limits& limits, const Case& c) {
  const Fp4Layout layout{c.format.kind == Kind::nvfp4 ? BlockScaled::nvfp4 : BlockScaled::mxfp4};
  const Fp4Tensor tensor = random_fp4(layout, static_cast<std::int64_t>(c.size.rows),
                                      static_cast<std::int64_t>(c.size.cols), 1);
  Weights<PackedFp4> weights([&] { return std::make_unique<PackedFp4>(tensor); });
  run_rounded(state, limits, c, weights);
}

void run_case(benchmark::State& state, const Limits& limits, const Case& c) {
  switch (c.format.kind) {
    case Kind::lobcq:
      return run_lobcq(state, limits, c);
    case Kind::groups:
      return run_group(state, limits, c);
    case Kind::nvfp4:
    case Kind::mxfp4:
      return run_fp4(state, limits, c);
  }
}

// Whether it would not run those of another level.
bool has_kernels(const Format& format, Isa isa) {
  return (format.inputs == Inputs::bf16 ? bf16_kernels(isa).isa : integer_kernels(isa).isa) == isa;
}

void register_case(const Limits& limits, const Case& c) {
  const std::string name = std::string(c.format.name) + "/" + std::string(name_of(c.isa)) + "/" +
                           std::to_string(c.size.rows) + "x" + std::to_string(c.size.cols) + "/" +
                           std::to_string(c.tokens) + (c.prepare_always ? "/and_inputs" : "");
  benchmark::RegisterBenchmark(name.c_str(), [c, &limits](benchmark::State& state) {
    run_case(state, limits, c);
  })->UseRealTime();
}

void register_all(const Limits& limits) {
  constexpr Size kSizes[] = {{576, 576},   {192, 576},   {1536, 576},  {576, 1536},
                             {49152, 576}, {4096, 4096}, {14336, 4096}};
  for (const Format& format : kFormats) {
    for (const Isa isa : supported_isas()) {
      if (!has_kernels(format, isa)) continue;
      for (const Size size : kSizes) {
        for (const std::size_t tokens : {std::size_t{1}, std::size_t{4}, std::size_t{512}}) {
          if (isa == Isa::scalar && tokens > 1) continue;
          for (const bool prepare : {false, true})
            register_case(limits, {format, size, tokens, isa, prepare});
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
