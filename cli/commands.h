// The subcommands. Each adds its options to the program and says how it runs.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "console.h"

namespace neap::cli {

struct Command {
  CLI::App* app = nullptr;
  // Called once the command line is parsed. Throws Error.
  std::function<void(Console&)> run;
};

Command make_quantize(CLI::App& program);
Command make_eval(CLI::App& program);
Command make_export(CLI::App& program);
Command make_verify(CLI::App& program);
Command make_inspect(CLI::App& program);
Command make_generate(CLI::App& program);
Command make_chat(CLI::App& program);
Command make_bench(CLI::App& program);
Command make_codebooks(CLI::App& program);
Command make_imatrix_command(CLI::App& program);

}  // namespace neap::cli
