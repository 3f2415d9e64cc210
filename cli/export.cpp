// neap export: a quantized model in another format, value for value.
#include <fmt/format.h>

#include <memory>

#include "commands.h"
#include "neap/export.h"
#include "options.h"
#include "verify_text.h"

namespace neap::cli {
namespace {

constexpr char kFooter[] =
    "Nothing is rounded: where the format has no grid with the very same values, one line says which\n"
    "layer, and what would do. Integer grids go from compressed-tensors to GPTQ and back (without zero\n"
    "points: gptq; with: gptq_v2), and into GGUF, each layer in the smallest of Q4_0, Q4_1, Q5_0, Q5_1,\n"
    "Q8_0 that holds it (groups in multiples of 32), MXFP4 in its own type. Q4_0, Q5_0, Q8_0, IQ4_NL and\n"
    "MXFP4 become integers in groups of 32. LO-BCQ's and MXFP4's weights are integers of 6 and 5 bits\n"
    "too; their 4-bit activations stay behind.\n"
    "\n"
    "Examples:\n"
    "  neap export small-w4 --format gptq -o small-w4-gptq\n"
    "  neap export small-w4 --format gguf -o small-w4.gguf\n"
    "  neap export model-Q4_0.gguf --format compressed-tensors -o model-w4 --allow-dense";

struct ExportCommand {
  std::string model, format;
  ConvertOptions options;
  CommonOptions common;
};

std::string describe_run(const ConvertReport& r) {
  std::string text = line("output", fmt::format("{}, {}, {:.3f} bits per weight", r.output, size_text(r.file_bytes), r.file_bits_per_weight));
  for (const auto& [grid, layers] : r.grids) text += line("grid", fmt::format("{}: {} layers", grid, layers));
  text += describe(r.verification);
  for (const auto& engine : r.engines) text += line(engine.loads ? "loads in" : "does not load in", engine.name + (engine.reason.empty() ? "" : ": " + engine.reason));
  for (const auto& note : r.notes) text += line("note", note);
  return text;
}

void run(ExportCommand& c, Console& console) {
  c.options.format = format_from_name(c.format);
  c.options.threads = c.common.threads;
  c.options.command = console.command_line();
  c.options.progress = console.progress();
  const ConvertReport report = convert(Checkpoint::open(c.model), c.options);
  console.clear_progress();
  console.print(c.common.json ? report.to_json() + "\n" : describe_run(report));
}

}  // namespace

Command make_export(CLI::App& program) {
  auto command = std::make_shared<ExportCommand>();
  CLI::App* app = program.add_subcommand("export", "Write a quantized model in another format, value for value");
  add_model(*app, command->model);
  app->add_option("--format", command->format, "compressed-tensors, gptq, gptq_v2 or gguf")->required()->type_name("NAME");
  app->add_option("-o,--output", command->options.output, "directory to write, or NAME.gguf; it appears when complete")
      ->required()
      ->type_name("OUT");
  app->add_flag("--overwrite", command->options.overwrite, "replace a model that stands at OUT");
  add_max_shard_size(*app, command->options.max_shard_bytes);
  app->add_flag("--allow-dense", command->options.allow_dense, "of a GGUF: layers that the format has no grid for become F32");
  add_base_model(*app, command->options.base_model);
  add_common(*app, command->common, "print the report as one JSON object instead of text");
  app->footer(kFooter);
  return {app, [command](Console& console) {
            command->common.apply(console);
            run(*command, console);
          }};
}

}  // namespace neap::cli
