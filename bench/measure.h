// What the benchmarks share: a clock, and the speed of oneDNN's own product, which is what "peak" means.
#pragma once

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <functional>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "base/parallel.h"
#include "base/random.h"
#include "neap/matrix.h"
#include "neap/model.h"

namespace neap {

// Where others use the machine too, the clock says little; the process' CPU time over its threads
// says what it would, if they share the work evenly and sleep while they wait.
inline bool count_cpu_time = false;

inline double now() {
  timespec t{};
  clock_gettime(count_cpu_time ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  const double seconds = static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  return count_cpu_time ? seconds / thread_count() : seconds;
}

inline double seconds_of(const std::function<void()>& work) {
  const double start = now();
  work();
  return now() - start;
}

// The best of several: what the machine can do when nobody else is in the way.
inline double best_seconds(std::size_t repeats, const std::function<void()>& work) {
  double best = seconds_of(work);
  for (std::size_t i = 1; i < repeats; ++i) best = std::min(best, seconds_of(work));
  return best;
}

inline Matrix<float> uniform_matrix(std::size_t rows, std::size_t cols, float scale, std::uint32_t seed) {
  Matrix<float> m(rows, cols);
  parallel_for(rows, [&](std::size_t r) {
    for (std::size_t c = 0; c < cols; ++c) {
      const auto bits =
          philox({static_cast<std::uint32_t>(c), static_cast<std::uint32_t>(r), 0, 0}, seed);
      m(r, c) = scale * (2 * uniform_float(bits[0]) - 1);
    }
  });
  return m;
}

// Bytes per second of summing the values, all threads.
inline double read_speed(MatrixView<const float> values, std::size_t repeats) {
  std::vector<float> sums(values.rows);
  const double seconds = best_seconds(repeats, [&] {
    parallel_for(values.rows, [&](std::size_t r) {
      const float* x = values.row(r);
      float lanes[64] = {};
      for (std::size_t c = 0; c + 64 <= values.cols; c += 64) {
        for (std::size_t i = 0; i < 64; ++i) lanes[i] += x[c + i];
      }
      for (const float lane : lanes) sums[r] += lane;
    });
  });
  return static_cast<double>(4 * values.rows * values.cols) / seconds;
}

// oneDNN's product of two n x n matrices, both in the layouts that it prefers. Operations (two per
// product) a second. type_x and type_w: f32, bf16, or u8 with s8; y: f32 or s32.
inline double product_speed(dnnl::memory::data_type type_x, dnnl::memory::data_type type_w,
                            dnnl::memory::data_type type_y, std::int64_t n, std::size_t repeats) {
  using Memory = dnnl::memory;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const auto any = Memory::format_tag::any;
  const Memory::desc floats({n, n}, Memory::data_type::f32, Memory::format_tag::ab);
  const Memory::desc result({n, n}, type_y, Memory::format_tag::ab);
  const dnnl::matmul::primitive_desc description(
      {Memory::desc({n, n}, type_x, any), Memory::desc({n, n}, type_w, any), result}, engine);
  const auto filled = [&](const Memory::desc& wanted, std::uint32_t seed) {
    Matrix<float> values =
        uniform_matrix(static_cast<std::size_t>(n), static_cast<std::size_t>(n), 1.f, seed);
    Memory plain(floats, engine, values.data()), memory(wanted, engine);
    dnnl::reorder(plain, memory).execute(stream, plain, memory);
    return memory;
  };
  Memory x = filled(description.src_desc(), 1), w = filled(description.weights_desc(), 2),
         y(result, engine);
  const dnnl::matmul product(description);
  const double seconds = best_seconds(repeats, [&] {
    product.execute(stream, {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DST, y}});
  });
  return 2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n) / seconds;
}

inline double product_speed(Precision precision, std::int64_t n, std::size_t repeats) {
  using Type = dnnl::memory::data_type;
  const Type type = precision == Precision::bf16 ? Type::bf16 : Type::f32;
  return product_speed(type, type, Type::f32, n, repeats);
}

inline double peak_speed(Precision precision) {
  return std::max(product_speed(precision, 2048, 20), product_speed(precision, 4096, 4));
}

}  // namespace neap
