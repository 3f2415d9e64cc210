#include "base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace neap {
namespace {

TEST(ParallelFor, RunsEachTileOnceAtAnyThreadCount) {
  for (const int threads : {1, 2, 5}) {
    ThreadScope scope(threads);
    std::vector<std::atomic<int>> runs(1000);
    parallel_for(runs.size(), [&](std::size_t i) { ++runs[i]; });
    for (const auto& count : runs) EXPECT_EQ(count.load(), 1);
  }
}

TEST(ParallelFor, CarriesAnExceptionOut) {
  ThreadScope scope(3);
  EXPECT_THROW(parallel_for(100, [](std::size_t i) {
                 if (i == 57) throw std::runtime_error("tile 57");
               }),
               std::runtime_error);
}

TEST(ThreadScope, RestoresTheCountBefore) {
  const int before = thread_count();
  {
    ThreadScope scope(before + 3);
    EXPECT_EQ(thread_count(), before + 3);
  }
  EXPECT_EQ(thread_count(), before);
}

}  // namespace
}  // namespace neap
