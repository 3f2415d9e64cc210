// neap: the command line program. Exit status: 0 done, 1 an error (one line on standard error), 2 a
// command line that makes no sense, 128 + N stopped by signal N (130: Ctrl-C).
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <csignal>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "commands.h"
#include "help.h"
#include "neap/error.h"
#include "neap/version.h"

namespace neap::cli {
namespace {

constexpr int kFailure = 1, kUsage = 2, kSignal = 128;

// --group_size means --group-size: both dialects are in use. Values keep their underscores.
std::vector<std::string> hyphenate(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  for (std::string& argument : arguments) {
    if (argument == "--") break;
    if (!argument.starts_with("--")) continue;
    for (char& c : argument) {
      if (c == '=') break;
      if (c == '_') c = '-';
    }
  }
  return arguments;
}

// As a shell would read it again.
std::string quoted(const std::string& word) {
  const bool plain = !word.empty() && word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=:,+@%") == word.npos;
  if (plain) return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::string command_line(int argc, char** argv) {
  std::string text = "neap";
  for (int i = 1; i < argc; ++i) text += " " + quoted(argv[i]);
  return text;
}

int report(Console& console, const std::string& message) {
  console.log().error(message);
  return kFailure;
}

int run(const Command& command, Console& console) {
  try {
    command.run(console);
    console.flush();
    return 0;
  } catch (const OutputClosed&) {
    return kSignal + SIGPIPE;
  } catch (const Error& error) {
    console.clear_progress();
    if (error.code() != ErrorCode::cancelled) return report(console, error.what());
    console.log().warn("stopped");
    return kSignal + Console::stop_signal();
  } catch (const std::bad_alloc&) {
    return report(console, "out of memory (see --max-memory)");
  } catch (const std::exception& error) {
    return report(console, error.what());
  }
}

int usage_error(const CLI::App& program, const std::string& message) {
  std::string name = "neap";
  for (const CLI::App* command : program.get_subcommands()) name += " " + command->get_name();
  fmt::print(stderr, "neap: error: {}\nTry: {} --help\n", message, name);
  return kUsage;
}

int main(int argc, char** argv) {
  CLI::App program(
      "Neap makes language models smaller without training them, on an ordinary CPU, and\n"
      "measures what that costs.");
  program.name("neap");
  program.set_version_flag("--version", std::string("neap ") + version(), "show the version");
  program.formatter(std::make_shared<HelpFormatter>());
  program.set_help_flag("-h,--help", "show this help");
  program.footer(
      "Each command has its own help, with examples: neap quantize --help\n"
      "Environment: NEAP_THREADS, NEAP_ISA, NEAP_LOG_LEVEL, NO_COLOR, HF_HUB_CACHE, HF_HOME");
  const std::vector<Command> commands = {make_quantize(program), make_eval(program),
                                         make_verify(program), make_export(program), make_inspect(program), make_generate(program),
                                         make_chat(program), make_bench(program), make_imatrix_command(program),
                                         make_codebooks(program)};
  Console console(command_line(argc, argv));
  try {
    std::vector<std::string> arguments = hyphenate(argc, argv);
    if (arguments.empty()) {
      fmt::print(stderr, "{}", program.help());
      return kUsage;
    }
    if (arguments[0] == "help") std::rotate(arguments.begin(), arguments.begin() + 1, arguments.end()), arguments.back() = "--help";
    const auto named = [&](const Command& c) { return c.app->get_name() == arguments[0]; };
    if (!arguments[0].starts_with('-') && std::none_of(commands.begin(), commands.end(), named)) {
      return usage_error(program, "no such command: " + arguments[0]);
    }
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
    program.parse(std::move(arguments));
  } catch (const CLI::Success& success) {  // --help, --version
    return program.exit(success);
  } catch (const CLI::ParseError& error) {
    return usage_error(program, error.what());
  }
  for (const Command& command : commands) {
    if (command.app->parsed()) return run(command, console);
  }
  return usage_error(program, "no command given");
}

}  // namespace
}  // namespace neap::cli

int main(int argc, char** argv) {
  // A file beyond `ulimit -f` is an error of the write, with a line of its own and nothing left behind.
  std::signal(SIGXFSZ, SIG_IGN);
  // Activations of a window are megabytes, made and dropped all the time: do not give the pages back.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  return neap::cli::main(argc, argv);
}
