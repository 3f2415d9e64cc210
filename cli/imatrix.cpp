// neap imatrix: calibration for llama.cpp's own quantizer.
#include "neap/imatrix.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "options.h"

namespace neap::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFooter[] =
    "Writes what llama-imatrix writes: for each linear layer of the blocks, the squares of its inputs\n"
    "summed over the text. `neap quantize --scheme GGUF:...` needs no such file: it works on what\n"
    "the text itself says, which is more.\n"
    "\n"
    "Examples:\n"
    "  neap imatrix model/ -o imatrix.gguf --calib wiki.txt\n"
    "  llama-quantize --imatrix imatrix.gguf model-F16.gguf model-Q4_K_M.gguf Q4_K_M\n"
    "  neap quantize model/ -o small --scheme GGUF:Q4_0 --imatrix imatrix.gguf";

struct ImatrixCommand {
  std::string model;
  ImatrixOptions options;
  CommonOptions common;
};

void add_options(CLI::App& app, ImatrixCommand& c) {
  ImatrixOptions& o = c.options;
  add_model(app, c.model);
  app.add_option("-o,--output", o.output, "file to write; one that is there is replaced")
      ->required()
      ->type_name("FILE.gguf");
  app.add_option("--calib", o.calibration.files,
                 "text to run the model on: plain text, or .jsonl with {\"text\"},\n"
                 "{\"messages\"} or {\"ids\"} lines. Without: text that the model writes itself")
      ->type_name("FILE...");
  app.add_option("--samples", o.calibration.samples, "windows of text\n")
      ->check(kPositive)
      ->type_name("N")
      ->default_str("all of the text; 24 of the model's own");
  app.add_option("--seqlen", o.calibration.length, "tokens of a window")
      ->check(kPositive)
      ->type_name("L")
      ->capture_default_str();
  app.add_option("--seed", o.calibration.seed, "of self-written text")->type_name("S")->capture_default_str();
  add_precision(app, o.precision);
  add_max_memory(app, o.max_memory);
  add_common(app, c.common, "print one JSON object instead of text");
}

std::string json_of(const ImatrixReport& r, const std::string& output) {
  Json out = {{"output", output}, {"weights", r.weights}, {"windows", r.windows}, {"tokens", r.tokens}};
  out["sources"] = Json::array();
  for (const auto& s : r.calibration) out["sources"].push_back({{"name", s.name}, {"xxh3", s.hash}, {"tokens", s.tokens}});
  out["seconds"] = r.seconds;
  return out.dump(2) + "\n";
}

void run(ImatrixCommand& c, Console& console) {
  c.options.threads = c.common.threads;
  c.options.progress = console.progress();
  require_not_read(c.options.output, {c.model});
  require_not_read(c.options.output, c.options.calibration.files);
  const ImatrixReport report = make_imatrix(Checkpoint::open(c.model), c.options);
  console.clear_progress();
  if (c.common.json) return console.print(json_of(report, c.options.output));
  console.print(fmt::format("{}: {} weights, {} tokens in {} windows, {:.1f} s\n", c.options.output, report.weights,
                            count_text(report.tokens), report.windows, report.seconds));
}

}  // namespace

Command make_imatrix_command(CLI::App& program) {
  auto command = std::make_shared<ImatrixCommand>();
  CLI::App* app = program.add_subcommand("imatrix", "Measure how large inputs are, for llama.cpp's quantizer");
  add_options(*app, *command);
  app->footer(kFooter);
  return {app, [command](Console& console) {
            command->common.apply(console);
            run(*command, console);
          }};
}

}  // namespace neap::cli
