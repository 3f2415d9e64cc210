// The progress of one stage after another, on a terminal or in a log.
#pragma once

#include <chrono>
#include <string>

#include "neap/progress.h"

namespace neap::cli {

// "0:07", "12:34", "1:02:03"
std::string clock_text(double seconds);

class ProgressLine {
 public:
  // terminal: standard error can rewrite a line.
  explicit ProgressLine(bool terminal) : terminal_(terminal) {}

  void show(const Progress& progress);
  // Takes the line off the terminal; the next show() draws it anew.
  void clear();
  void enable(bool on) { enabled_ = on; }

 private:
  using Clock = std::chrono::steady_clock;

  std::string text(const Progress& progress, Clock::time_point now) const;

  bool terminal_, enabled_ = true, drawn_ = false;
  // A run is a stretch of work whose total stays and whose count grows: what the time left is
  // reckoned from.
  Clock::time_point run_start_{}, last_shown_{};
  std::int64_t run_first_ = 0, run_done_ = 0, run_total_ = -1;
};

}  // namespace neap::cli
