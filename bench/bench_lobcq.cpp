// LO-BCQ's encoder: values per second at every level, beside the speed at which memory is read.
//
//   bench_lobcq [ROWS COLS [cpu]]      default 4096 4096; OMP_NUM_THREADS; cpu: CPU time over
//   threads, not the clock
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "codec/lobcq_encode.h"
#include "measure.h"
#include "support/random_matrix.h"

namespace neap {
namespace {

void run(std::size_t rows, std::size_t cols) {
  constexpr std::size_t kRepeats = 5;
  const Matrix<float> values = random_matrix(rows, cols, 1);
  Matrix<float> out(rows, cols);
  const auto count = static_cast<double>(rows * cols);
  const double peak = measure_reading(now);
  const LobcqLayout layout;
  const Codebooks codebooks = universal_codebooks(layout).weights;
  const float scale = tensor_scale_for(largest_magnitude(values));
  std::printf("%zu x %zu, %d threads, memory read at %.1f GB/s\n", rows, cols, thread_count(),
              peak * 1e-9);
  std::printf("%-12s %-22s %10s %14s %10s\n", "level", "what", "seconds", "values/s", "of peak");
  for (const Isa isa : supported_isas()) {
    if (lobcq_level(isa).isa != isa) continue;  // one of another level would be meant
    const LobcqEncoder encoder(layout, codebooks, isa);
    const auto report = [&](const char* what, const std::function<void()>& work) {
      const double seconds = best_seconds(kRepeats, work);
      std::printf("%-12s %-22s %10.4f %14.3g %9.1f%%\n", std::string(name_of(isa)).c_str(), what,
                  seconds, count / seconds, 100 * 4 * count / seconds / peak);
    };
    for (const ScaleChoice choice : {ScaleChoice::maximum, ScaleChoice::search}) {
      const bool search = choice == ScaleChoice::search;
      report(search ? "encode, searched" : "encode, maximum",
             [&] { encoder.encode(values, scale, choice); });
      report(search ? "round, searched" : "round, maximum",
             [&] { encoder.round(values, scale, choice, out); });
    }
  }
}

}  // namespace
}  // namespace neap

int main(int argc, char** argv) {
  const auto size = [&](int i) {
    return argc > i ? static_cast<std::size_t>(std::atoll(argv[i])) : std::size_t{4096};
  };
  neap::count_cpu_time = argc > 3;
  neap::run(size(1), size(2));
  return 0;
}
