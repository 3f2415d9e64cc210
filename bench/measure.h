// What the benchmarks share: a clock, and the speed of oneDNN's own product, which is what "peak" means.
#pragma once

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <functional>

#include "base/parallel.h"
#include "base/random.h"
#include "model/linear.h"
#include "neap/matrix.h"
#include "neap/model.h"
#include "runtime/limits.h"

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

// oneDNN's own large product in the machine's arithmetic for `precision`. FLOP/s.
inline double peak_speed(Precision precision) {
  const Operand operand = precision == Precision::bf16 ? bf16_operand() : Operand::f32;
  return measure_products(arithmetic_of(operand), now);
}

}  // namespace neap
