#include "base/parallel.h"

#include <omp.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <utility>
#include <vector>

#include "neap/check.h"

namespace neap {
namespace {

using Body = std::function<void(std::size_t)>;

// Tiles, of which every thread has a share of neighbours: what they read lies one after another then,
// and the memory's look-ahead goes on from tile to tile. (Threads that take turns at tiles of 32 KB
// reach half of the speed.) Who has no more takes half of what another still has.
class Loop {
 public:
  explicit Loop(std::size_t threads) : shares_(threads) {}

  void begin(std::size_t tiles, const Body& body) {
    NEAP_CHECK(tiles <= kMost);
    body_ = &body;
    failed_.store(false, std::memory_order_relaxed);
    const std::size_t count = shares_.size();
    for (std::size_t i = 0; i < count; ++i)
      shares_[i].range.store(range(tiles * i / count, tiles * (i + 1) / count), std::memory_order_relaxed);
  }
  // Until none is left, or one has failed. thread: of those that share, each its own.
  void take_tiles(std::size_t thread) {
    do {
      for (std::size_t tile; take(thread, tile);) {
        try {
          (*body_)(tile);
        } catch (...) {
          if (!failed_.exchange(true)) failure_ = std::current_exception();
        }
        if (failed_.load(std::memory_order_relaxed)) return;
      }
    } while (steal(thread));
  }
  // Once every thread is through.
  void rethrow_failure() {
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }

 private:
  static constexpr std::uint64_t kMost = 0xffffffffu;
  struct alignas(64) Share {
    std::atomic<std::uint64_t> range{0};  // first tile above, the one behind the last below
  };
  static constexpr std::uint64_t range(std::uint64_t first, std::uint64_t end) { return first << 32 | end; }

  bool take(std::size_t thread, std::size_t& tile) {
    std::atomic<std::uint64_t>& share = shares_[thread].range;
    std::uint64_t left = share.load(std::memory_order_relaxed);
    do {
      tile = left >> 32;
      if (tile == (left & kMost)) return false;
    } while (!share.compare_exchange_weak(left, range(tile + 1, left & kMost), std::memory_order_relaxed));
    return true;
  }

  // The latter half of another's share becomes this thread's, whose own is empty. No range is ever
  // anywhere twice, so that a share that has not changed is the same.
  bool steal(std::size_t thread) {
    const std::size_t count = shares_.size();
    for (std::size_t i = 1; i < count; ++i) {
      std::atomic<std::uint64_t>& share = shares_[(thread + i) % count].range;
      std::uint64_t left = share.load(std::memory_order_relaxed), first, middle;
      do {
        first = left >> 32;
        middle = (first + (left & kMost)) / 2;
        if (first == (left & kMost)) break;
      } while (!share.compare_exchange_weak(left, range(first, middle), std::memory_order_relaxed));
      if (first == (left & kMost)) continue;
      shares_[thread].range.store(range(middle, left & kMost), std::memory_order_relaxed);
      return true;
    }
    return false;
  }

  std::vector<Share> shares_;
  std::atomic<bool> failed_{false};
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
  explicit Team(std::size_t threads) : loop_(threads) {}

  // On the thread whose loops these are: thread 0.
  void run(std::size_t tiles, const Body& body) {
    loop_.begin(tiles, body);
    turn_ += kTurn;
    gate_.store(turn_ | kOpen, std::memory_order_release);
    loop_.take_tiles(0);
    gate_.fetch_and(~kOpen, std::memory_order_relaxed);
    while ((gate_.load(std::memory_order_acquire) & kInside) != 0) pause();
    loop_.rethrow_failure();
  }
  void dismiss() { gate_.store(kDismissed, std::memory_order_release); }

  // On every other thread, until they are dismissed.
  void stand_by(std::size_t thread) {
    constexpr int kSpins = 4096;  // some tens of microseconds; then others may have the processor
    std::uint64_t done = 0;       // the turn that was left last
    for (int spins = 0;; ++spins) {
      std::uint64_t gate = gate_.load(std::memory_order_relaxed);
      if (gate == kDismissed) return;
      const std::uint64_t turn = gate & ~(kTurn - 1);
      if ((gate & kOpen) != 0 && turn != done) {
        if (!gate_.compare_exchange_strong(gate, gate + 1, std::memory_order_acquire)) continue;
        loop_.take_tiles(thread);
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
  Loop loop(static_cast<std::size_t>(omp_get_max_threads()));
  loop.begin(tiles, body);
#pragma omp parallel
  loop.take_tiles(static_cast<std::size_t>(omp_get_thread_num()));
  loop.rethrow_failure();
}

void with_team(const std::function<void()>& body) {
  if (standing_by || omp_in_parallel() || omp_get_max_threads() == 1) return body();
  Team team(static_cast<std::size_t>(omp_get_max_threads()));
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
      team.stand_by(static_cast<std::size_t>(omp_get_thread_num()));
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
