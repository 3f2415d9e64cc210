#include "runtime/limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <oneapi/dnnl/dnnl.hpp>

#include "base/multiversion.h"
#include "base/page_memory.h"
#include "base/parallel.h"
#include "base/random.h"
#include "neap/matrix.h"

namespace neap {
namespace {

using Memory = dnnl::memory;
using Type = Memory::data_type;

// The least of what `work` takes, repeated for `budget` seconds but `least` times at least: what the
// machine can do when nobody else is in the way.
template <class Work>
double best_seconds(Clock clock, double budget, int least, const Work& work) {
  double best = 0, spent = 0;
  for (int run = 0; run < least || spent < budget; ++run) {
    const double start = clock();
    work();
    const double seconds = clock() - start;
    best = run == 0 ? seconds : std::min(best, seconds);
    spent += seconds;
  }
  return best;
}

Matrix<float> noise(std::size_t n, std::uint32_t seed) {
  auto values = Matrix<float>::unset(n, n);
  parallel_for(n, [&](std::size_t r) {
    for (std::size_t c = 0; c < n; ++c) {
      const auto bits = philox({static_cast<std::uint32_t>(c), static_cast<std::uint32_t>(r), 0, 0}, seed);
      values(r, c) = 100 * uniform_float(bits[0]);
    }
  });
  return values;
}

// Two n x n matrices and their product, ready to run.
class SquareProduct {
 public:
  SquareProduct(Arithmetic arithmetic, std::int64_t n)
      : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_), size_(n) {
    const bool integer = arithmetic == Arithmetic::int8;
    const Type real = arithmetic == Arithmetic::f32 ? Type::f32 : Type::bf16;
    const Memory::desc result({n, n}, integer ? Type::s32 : Type::f32, Memory::format_tag::ab);
    const dnnl::matmul::primitive_desc description(
        {any_layout(integer ? Type::u8 : real), any_layout(integer ? Type::s8 : real), result}, engine_);
    x_ = filled(description.src_desc(), 1);
    weights_ = filled(description.weights_desc(), 2);
    y_ = Memory(result, engine_);
    product_ = dnnl::matmul(description);
  }

  void run() {
    product_.execute(stream_, {{DNNL_ARG_SRC, x_}, {DNNL_ARG_WEIGHTS, weights_}, {DNNL_ARG_DST, y_}});
    stream_.wait();
  }
  double operations() const {
    const auto n = static_cast<double>(size_);
    return 2 * n * n * n;
  }

 private:
  Memory::desc any_layout(Type type) const { return {{size_, size_}, type, Memory::format_tag::any}; }

  Memory filled(const Memory::desc& wanted, std::uint32_t seed) {
    Matrix<float> values = noise(static_cast<std::size_t>(size_), seed);
    Memory plain({{size_, size_}, Type::f32, Memory::format_tag::ab}, engine_, values.data());
    Memory memory(wanted, engine_);
    dnnl::reorder(plain, memory).execute(stream_, plain, memory);
    stream_.wait();
    return memory;
  }

  dnnl::engine engine_;
  dnnl::stream stream_;
  std::int64_t size_;
  Memory x_, weights_, y_;
  dnnl::matmul product_;
};

double product_speed(SquareProduct& product, Clock clock, double budget) {
  product.run();  // compiles, touches the result's pages
  return product.operations() / best_seconds(clock, budget, 2, [&] { product.run(); });
}

// Something that depends on every cache line.
NEAP_MULTIVERSION
std::uint64_t sum_of(const std::uint64_t* words, std::size_t count) {
  std::uint64_t lanes[32] = {};
  for (std::size_t i = 0; i < count; i += 32) {
    for (std::size_t lane = 0; lane < 32; ++lane) lanes[lane] += words[i + lane];
  }
  std::uint64_t sum = 0;
  for (const std::uint64_t lane : lanes) sum += lane;
  return sum;
}

}  // namespace

double wall_clock() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double measure_products(Arithmetic arithmetic, Clock clock) {
  constexpr double kBudget = 0.25;
  SquareProduct small(arithmetic, 2048);
  const double speed = product_speed(small, clock, kBudget);
  if (8 * small.operations() / speed > kBudget * 2) return speed;  // a slow machine
  SquareProduct large(arithmetic, 4096);
  return std::max(speed, product_speed(large, clock, kBudget));
}

double measure_reading(Clock clock) {
  constexpr std::size_t kTile = std::size_t{1} << 17, kTiles = 256;  // 1 MiB each
  const PageMemory memory(kTiles * kTile * sizeof(std::uint64_t));
  const MatrixView<std::uint64_t> words(reinterpret_cast<std::uint64_t*>(memory.data()), kTiles, kTile);
  parallel_for(kTiles, [&](std::size_t tile) { std::fill_n(words.row(tile), kTile, tile); });
  std::atomic<std::uint64_t> sum = 0;  // so that nothing is left out
  const double seconds = best_seconds(clock, 0.25, 3, [&] {
    parallel_for(kTiles, [&](std::size_t tile) { sum += sum_of(words.row(tile), kTile); });
  });
  NEAP_CHECK(sum % (kTiles * (kTiles - 1) / 2 * kTile) == 0);
  return static_cast<double>(kTiles * kTile * sizeof(std::uint64_t)) / seconds;
}

}  // namespace neap
