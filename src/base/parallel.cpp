#include "base/parallel.h"

#include <omp.h>

#include <atomic>
#include <exception>

namespace neap {

void parallel_for(std::size_t tiles, const std::function<void(std::size_t)>& body) {
  if (tiles == 0) return;
  if (tiles == 1 || omp_in_parallel()) {
    for (std::size_t i = 0; i < tiles; ++i) body(i);
    return;
  }
  std::exception_ptr failure;
  std::atomic<bool> failed{false};
#pragma omp parallel for schedule(dynamic, 1)
  for (std::size_t i = 0; i < tiles; ++i) {
    if (failed.load(std::memory_order_relaxed)) continue;
    try {
      body(i);
    } catch (...) {
#pragma omp critical(neap_parallel_for_failure)
      if (!failed.exchange(true)) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

int thread_count() { return omp_get_max_threads(); }

ThreadScope::ThreadScope(int threads) : before_(omp_get_max_threads()) {
  if (threads > 0) omp_set_num_threads(threads);
}

ThreadScope::~ThreadScope() { omp_set_num_threads(before_); }

}  // namespace neap
