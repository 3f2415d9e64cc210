// Where the time of a run goes.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "neap/quantize.h"

namespace neap {

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Adds seconds (and the arithmetic done in them) to named phases, in the order of their first use.
class PhaseClock {
 public:
  void add(const std::string& name, double seconds, double gflop = 0) {
    for (auto& phase : phases_) {
      if (phase.name != name) continue;
      phase.seconds += seconds;
      phase.gflop += gflop;
      return;
    }
    phases_.push_back({name, seconds, gflop});
  }
  const std::vector<QuantizeReport::Phase>& phases() const { return phases_; }

 private:
  std::vector<QuantizeReport::Phase> phases_;
};

// Runs `work` and books its time.
template <class Work>
auto timed(PhaseClock& clock, const std::string& name, double gflop, Work&& work) {
  const double start = seconds_now();
  struct Booking {
    PhaseClock& clock;
    const std::string& name;
    double gflop, start;
    ~Booking() { clock.add(name, seconds_now() - start, gflop); }
  } booking{clock, name, gflop, start};
  return work();
}

}  // namespace neap
