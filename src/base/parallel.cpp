#include "base/parallel.h"

#include <omp.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <utility>

namespace neap {
namespace {

using Body = std::function<void(std::size_t)>;

// Tiles that threads take from one after another.
class Loop {
 public:
  void begin(std::size_t tiles, const Body& body) {
    tiles_ = tiles;
    body_ = &body;
    failed_.store(false, std::memory_order_relaxed);
    next_.store(0, std::memory_order_relaxed);
  }
  // Until none is left, or one has failed.
  void take_tiles() {
    while (!failed_.load(std::memory_order_relaxed)) {
      const std::size_t tile = next_.fetch_add(1, std::memory_order_relaxed);
      if (tile >= tiles_) return;
      try {
        (*body_)(tile);
      } catch (...) {
        if (!failed_.exchange(true)) failure_ = std::current_exception();
      }
    }
  }
  // Once every thread is through.
  void rethrow_failure() {
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

 private:
  alignas(64) std::atomic<std::size_t> next_{0};
  std::atomic<bool> failed_{false};
  std::size_t tiles_ = 0;
  const Body* body_ = nullptr;
  std::exception_ptr failure_;
};

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Threads that stand by for the loops of one. They enter a loop while it is open and leave it when
// its tiles are gone; nobody waits for one that has not entered, so that a thread that has lost its
// processor to another program holds nothing up.
class Team {
 public:
  // On the thread whose loops these are.
  void run(std::size_t tiles, const Body& body) {
    loop_.begin(tiles, body);
    turn_ += kTurn;
    gate_.store(turn_ | kOpen, std::memory_order_release);
    loop_.take_tiles();
    gate_.fetch_and(~kOpen, std::memory_order_relaxed);
    while ((gate_.load(std::memory_order_acquire) & kInside) != 0) pause();
    loop_.rethrow_failure();
  }
  void dismiss() { gate_.store(kDismissed, std::memory_order_release); }

  // On every other thread, until they are dismissed.
  void stand_by() {
    constexpr int kSpins = 4096;  // some tens of microseconds; then others may have the processor
    std::uint64_t done = 0;       // the turn that was left last
    for (int spins = 0;; ++spins) {
      std::uint64_t gate = gate_.load(std::memory_order_relaxed);
      if (gate == kDismissed) return;
      const std::uint64_t turn = gate & ~(kTurn - 1);
      if ((gate & kOpen) != 0 && turn != done) {
        if (!gate_.compare_exchange_strong(gate, gate + 1, std::memory_order_acquire)) continue;
        loop_.take_tiles();
        gate_.fetch_sub(1, std::memory_order_release);
        done = turn;
        spins = 0;
      } else if (spins < kSpins) {
        pause();
      } else {
        std::this_thread::yield();
      }
    }
  }

 private:
  // The gate: threads inside, whether it is open, and whose turn it is.
  static constexpr std::uint64_t kOpen = 1u << 16, kInside = kOpen - 1, kTurn = kOpen << 1;
  static constexpr std::uint64_t kDismissed = ~std::uint64_t{0};

  alignas(64) std::atomic<std::uint64_t> gate_{0};
  std::uint64_t turn_ = 0;
  Loop loop_;
};

thread_local Team* standing_by = nullptr;  // for this thread's next loop

// Loops within a loop run serially.
void run_on(Team& team, std::size_t tiles, const Body& body) {
  struct Restore {
    Team* team;
    ~Restore() { standing_by = team; }
  } restore{std::exchange(standing_by, nullptr)};
  team.run(tiles, body);
}

}  // namespace

void parallel_for(std::size_t tiles, const Body& body) {
  if (standing_by && tiles > 1) return run_on(*standing_by, tiles, body);
  if (tiles <= 1 || omp_in_parallel()) {
    for (std::size_t i = 0; i < tiles; ++i) body(i);
    return;
  }
  Loop loop;
  loop.begin(tiles, body);
#pragma omp parallel
  loop.take_tiles();
  loop.rethrow_failure();
}

void with_team(const std::function<void()>& body) {
  if (standing_by || omp_in_parallel() || omp_get_max_threads() == 1) return body();
  Team team;
  std::exception_ptr failure;
#pragma omp parallel
  {
    if (omp_get_thread_num() == 0) {
      standing_by = &team;
      try {
        body();
      } catch (...) {
        failure = std::current_exception();
      }
      standing_by = nullptr;
      team.dismiss();
    } else {
      team.stand_by();
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
