#include "progress_line.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

namespace neap::cli {
namespace {

constexpr std::chrono::milliseconds kTerminalPause{100}, kLogPause{10000};
constexpr double kFirstEstimate = 2;  // seconds of a run before its speed says anything

std::size_t terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string clock_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds + 0.5);
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

void ProgressLine::show(const Progress& progress) {
  const auto now = Clock::now();
  if (progress.total != run_total_ || progress.done < run_done_) {
    run_start_ = now;
    run_first_ = progress.done;
    run_total_ = progress.total;
    if (!terminal_) last_shown_ = now;
  }
  run_done_ = progress.done;
  if (!enabled_ || now - last_shown_ < (terminal_ ? kTerminalPause : kLogPause)) return;
  last_shown_ = now;
  std::string line = text(progress, now);
  if (terminal_) {
    line.resize(std::min(line.size(), terminal_width() - 1));
    fmt::print(stderr, "\r{}\x1b[K", line);
    drawn_ = true;
  } else {
    fmt::print(stderr, "{}\n", line);
  }
  std::fflush(stderr);
}

void ProgressLine::clear() {
  if (!drawn_) return;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
  drawn_ = false;
  last_shown_ = {};
}

std::string ProgressLine::text(const Progress& progress, Clock::time_point now) const {
  if (progress.total <= 0) return fmt::format("{}: {}", progress.stage, progress.done);
  const double elapsed = std::chrono::duration<double>(now - run_start_).count();
  std::string line = fmt::format("{}: {}/{} ({} %)", progress.stage, progress.done, progress.total,
                                 100 * progress.done / progress.total);
  const std::int64_t finished = progress.done - run_first_;
  if (finished > 0 && elapsed > kFirstEstimate) {
    const double left = elapsed / static_cast<double>(finished) *
                        static_cast<double>(progress.total - progress.done);
    line += fmt::format(", {} left", clock_text(left));
  }
  return line;
}

}  // namespace neap::cli
