#include "console.h"

#include <fmt/format.h>
#include <spdlog/details/null_mutex.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "neap/error.h"
#include "progress_line.h"

namespace neap::cli {
namespace {

volatile std::sig_atomic_t stop_requested = 0;

extern "C" void request_stop(int signal) {
  stop_requested = signal;
  constexpr char kText[] = "\nneap: stopping at the next safe point (once more: at once)\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, kText, sizeof kText - 1);
}

void listen(int signal) {
  struct sigaction action {};
  action.sa_handler = request_stop;
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;  // RESETHAND: the second one kills
  sigaction(signal, &action, nullptr);
}

bool is_terminal() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) != 0 && term != nullptr && std::strcmp(term, "dumb") != 0;
}

// "neap: warning: ..." on standard error, clear of the progress line.
class LogSink : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  LogSink(std::shared_ptr<ProgressLine> line, bool colour) : line_(std::move(line)), colour_(colour) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    line_->clear();
    const std::string_view text(message.payload.data(), message.payload.size());
    if (message.level == spdlog::level::info) {
      fmt::print(stderr, "{}\n", text);
    } else {
      fmt::print(stderr, "neap: {}: {}\n", label(message.level), text);
    }
  }
  void flush_() override { std::fflush(stderr); }

 private:
  std::string label(spdlog::level::level_enum level) const {
    const auto name = spdlog::level::to_string_view(level);
    const std::string text(name.data(), name.size());
    if (!colour_ || level < spdlog::level::warn) return text;
    return fmt::format("\x1b[{}m{}\x1b[0m", level == spdlog::level::warn ? 33 : 31, text);
  }

  std::shared_ptr<ProgressLine> line_;
  bool colour_;
};

}  // namespace

Console::Console(std::string command_line) : command_line_(std::move(command_line)), line_(std::make_shared<ProgressLine>(is_terminal())) {
  listen(SIGINT);
  listen(SIGTERM);
  std::signal(SIGPIPE, SIG_IGN);
  const char* no_color = std::getenv("NO_COLOR");
  const bool colour = is_terminal() && (no_color == nullptr || *no_color == '\0');
  log_ = std::make_shared<spdlog::logger>("neap", std::make_shared<LogSink>(line_, colour));
}

Console::~Console() { clear_progress(); }

void Console::set_level(bool quiet, int verbosity) {
  auto level = spdlog::level::info;
  if (const char* name = std::getenv("NEAP_LOG_LEVEL"); name != nullptr && *name != '\0') {
    level = spdlog::level::from_str(name);
    if (level == spdlog::level::off && std::strcmp(name, "off") != 0) {
      throw Error(ErrorCode::argument, "NEAP_LOG_LEVEL is not a level",
                  {.expected = "trace, debug, info, warn, error or off", .found = name});
    }
  }
  if (verbosity > 0) level = verbosity == 1 ? spdlog::level::debug : spdlog::level::trace;
  if (quiet) level = spdlog::level::warn;
  log_->set_level(level);
  line_->enable(level <= spdlog::level::info);
}

ProgressCallback Console::progress() {
  return [this](const Progress& progress) {
    if (!progress.note.empty()) log_->info(progress.note);
    line_->show(progress);
    return stop_signal() == 0;
  };
}

void Console::clear_progress() { line_->clear(); }

int Console::stop_signal() { return stop_requested; }

void Console::print(std::string_view text) {
  clear_progress();
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) flush();
}

void Console::flush() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return;
  if (errno == EPIPE) throw OutputClosed{};
  throw Error(ErrorCode::io, std::string("cannot write to standard output: ") + std::strerror(errno));
}

}  // namespace neap::cli
