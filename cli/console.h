// What the program shows and hears: results on standard output, log and progress on standard error,
// Ctrl-C. One object for the whole run.
#pragma once

#include <spdlog/logger.h>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "neap/progress.h"

namespace neap::cli {

// The reader of our standard output has gone away: nothing to say, nobody to say it to.
struct OutputClosed {};

class ProgressLine;

class Console {
 public:
  // Installs handlers: the first SIGINT or SIGTERM asks for a stop, the second one of a kind kills.
  // SIGPIPE is ignored, so that a vanished reader is an error like any other.
  explicit Console(std::string command_line);
  ~Console();

  // quiet: warnings and errors only. verbosity: 1 shows debug, 2 trace messages. With neither,
  // NEAP_LOG_LEVEL (trace, debug, info, warn, error, off) decides.
  void set_level(bool quiet, int verbosity);
  spdlog::logger& log() { return *log_; }
  // What was typed, quoted for a shell.
  const std::string& command_line() const { return command_line_; }

  // On a terminal one line that is rewritten, with the time left; else a plain line every ten seconds.
  // Its result is false once a stop was asked for.
  ProgressCallback progress();
  // Takes the line off the terminal.
  void clear_progress();

  // 0, or the signal that asked for a stop.
  static int stop_signal();

  // To standard output; throws OutputClosed, or Error(io) if the disk is full.
  void print(std::string_view text);
  void flush();

 private:
  std::string command_line_;
  std::shared_ptr<ProgressLine> line_;
  std::shared_ptr<spdlog::logger> log_;
};

}  // namespace neap::cli
