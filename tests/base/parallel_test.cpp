#include "base/parallel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
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

TEST(ParallelFor, RunsEachTileOnceWhereOneShareTakesLong) {
  ThreadScope scope(5);
  for (const std::size_t tiles : {std::size_t{1}, std::size_t{4}, std::size_t{23}, std::size_t{500}}) {
    std::vector<std::atomic<int>> runs(tiles);
    parallel_for(tiles, [&](std::size_t i) {
      if (i < tiles / 5) std::this_thread::sleep_for(std::chrono::microseconds(200));
      ++runs[i];
    });
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

TEST(WithTeam, RunsEachTileOfEveryLoopOnceAtAnyThreadCount) {
  for (const int threads : {1, 2, 5}) {
    ThreadScope scope(threads);
    std::vector<std::atomic<int>> runs(40);
    with_team([&] {
      EXPECT_EQ(thread_count(), threads);
      for (int loop = 0; loop < 2000; ++loop) {
        parallel_for(runs.size(), [&](std::size_t i) { ++runs[i]; });
        // A loop is over when it returns.
        for (const auto& count : runs) ASSERT_EQ(count.load(), loop + 1);
      }
    });
  }
}

TEST(WithTeam, LoopsWithinLoopsRunOnTheirThread) {
  ThreadScope scope(3);
  std::atomic<int> runs = 0;
  with_team([&] {
    with_team([&] {
      parallel_for(20, [&](std::size_t) {
        int own = 0;
        parallel_for(30, [&](std::size_t) { ++own; });
        runs += own;
      });
    });
    parallel_for(5, [&](std::size_t) { ++runs; });
  });
  EXPECT_EQ(runs, 20 * 30 + 5);
}

TEST(WithTeam, CarriesExceptionsOutAndGoesOn) {
  ThreadScope scope(3);
  EXPECT_THROW(with_team([] { throw std::runtime_error("body"); }), std::runtime_error);
  std::atomic<int> runs = 0;
  with_team([&] {
    EXPECT_THROW(parallel_for(100, [](std::size_t i) {
                   if (i == 57) throw std::runtime_error("tile 57");
                 }),
                 std::runtime_error);
    parallel_for(100, [&](std::size_t) { ++runs; });
  });
  parallel_for(100, [&](std::size_t) { ++runs; });
  EXPECT_EQ(runs, 200);
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
