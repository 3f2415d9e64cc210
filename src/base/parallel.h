// Work is cut into fixed tiles, whatever the number of threads, so that results do not depend on it.
// A tile may call OpenBLAS or oneDNN: inside a parallel region they run on the calling thread.
#pragma once

#include <cstddef>
#include <functional>

namespace neap {

// Calls body(tile) for each tile in [0, tiles), on the calling thread's OpenMP team, in no order.
// The first exception is carried out to the caller; tiles not yet begun are then skipped. Nested
// calls run serially.
void parallel_for(std::size_t tiles, const std::function<void(std::size_t)>& body);

// Runs body on the calling thread while the other threads of its team stand by for its parallel_for,
// which then costs a fraction of a microsecond: for work of many short loops. They spin between the
// loops, and give way to other programs when one is long in coming. Exceptions are carried out.
void with_team(const std::function<void()>& body);

// As many threads as parallel_for would use now.
int thread_count();

// For its lifetime, the calling thread's parallel_for uses `threads` (0 leaves it as it is: OpenMP's
// default, OMP_NUM_THREADS). No process-wide setting is touched.
class ThreadScope {
 public:
  explicit ThreadScope(int threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

}  // namespace neap
