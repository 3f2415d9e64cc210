// How long a cache line takes from one processor to another and back, for every pair: which of them
// share a cache, whatever the system says. The best of many, so that other programs do no harm.
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;

void stay_on(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

// Odd numbers are one side's to answer, even ones the other's; negative: the end.
alignas(64) std::atomic<int> ball{0};

void answer(int processor) {
  stay_on(processor);
  for (int seen; (seen = ball.load(std::memory_order_acquire)) >= 0;)
    if (seen % 2 == 1) ball.store(seen + 1, std::memory_order_release);
}

double nanoseconds_of_a_round(int first, int second) {
  constexpr int kRounds = 20;
  ball = 0;
  std::thread other(answer, second);
  stay_on(first);
  double best = 1e9;
  for (const auto end = Clock::now() + std::chrono::seconds(3); Clock::now() < end;) {
    const auto start = Clock::now();
    for (int i = 0; i < kRounds; ++i) {
      ball.store(2 * i + 1, std::memory_order_release);
      while (ball.load(std::memory_order_acquire) != 2 * i + 2) {
      }
    }
    best = std::min(best, std::chrono::duration<double, std::nano>(Clock::now() - start).count() / kRounds);
  }
  ball = -1;
  other.join();
  return best;
}

}  // namespace

int main() {
  const int count = static_cast<int>(std::thread::hardware_concurrency());
  for (int first = 0; first < count; ++first) {
    for (int second = first + 1; second < count; ++second)
      std::printf("%d and %d: %.0f ns\n", first, second, nanoseconds_of_a_round(first, second));
  }
}
