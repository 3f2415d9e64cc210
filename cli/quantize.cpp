// neap quantize: the main job.
#include "neap/quantize.h"

#include <fmt/format.h>

#include <memory>

#include "commands.h"
#include "neap/error.h"
#include "quantize_recipe.h"
#include "verify_text.h"

namespace neap::cli {
namespace {

constexpr char kFooter[] =
    "Methods:\n"
    "  rtn    round to the nearest point of the grid; seconds, and no calibration (but for the 4-bit\n"
    "         activations of NVFP4)\n"
    "  gptq   GPTQ, with exact static groups\n"
    "  gptaq  GPTQ with the published correction towards full-precision activations\n"
    "  awq    activation-aware scales folded into the neighbours, clipping, rounding\n"
    "  ojbkq  joint target, lattice decoding along K random paths, descent: the best, the default\n"
    "\n"
    "Examples:\n"
    "  neap quantize meta-llama/Llama-3.2-1B -o small-w4\n"
    "  neap quantize model/ -o small-w4a4 --scheme LOBCQ\n"
    "  neap quantize model/ -o small-nvfp4 --scheme NVFP4A16 --method rtn\n"
    "  neap quantize model/ -o small-Q4_K_M --scheme GGUF:Q4_K_M --calib wiki.txt\n"
    "  neap quantize model.gguf -o small-w3 --scheme W3A16_ASYM --group-size 64\n"
    "  neap quantize model/ -o out --calib wiki.txt chats.jsonl --samples 128 --seqlen 2048\n"
    "  neap quantize model/ -o out --override 're:.*down_proj=bits:4,group:32' --ignore 're:.*layers.0.*'\n"
    "  neap quantize model/ -o out --recipe earlier/neap_recipe.json\n"
    "  neap quantize model/ -o w4 --calib wiki.txt --also W4A16:gptq=w4-gptq --also GGUF:Q4_0=Q4_0.gguf";

std::string describe_run(const QuantizeReport& r) {
  std::string text = line("output", fmt::format("{}, {}", r.output, size_text(r.file_bytes)));
  text += line("grid", r.grid() + (r.layout_reason.empty() ? "" : ": " + r.layout_reason));
  text += line("activations", r.activations);
  text += line("bits per weight", fmt::format("{:.3f} of the {} quantized layers, {:.3f} of the whole file",
                                              r.bits_per_weight, r.layers.size(), r.file_bits_per_weight));
  if (r.calibration_windows > 0 && r.calibration_tokens > 0) {
    text += line("calibration", fmt::format("{} tokens in {} windows", count_text(r.calibration_tokens),
                                            r.calibration_windows));
  }
  for (const auto& phase : r.phases) {
    text += line("  " + phase.name,
                 phase.gflop > 0 && phase.seconds > 0
                     ? fmt::format("{:.1f} s, {:.0f} GFLOP/s", phase.seconds, phase.gflop / phase.seconds)
                     : fmt::format("{:.1f} s", phase.seconds));
  }
  text += line("time, peak memory", fmt::format("{:.1f} s, {}", r.seconds, size_text(r.peak_memory)));
  if (r.verification) text += describe(*r.verification);
  for (const auto& engine : r.engines) {
    text += line(engine.loads ? "loads in" : "does not load in",
                 engine.name + (engine.reason.empty() ? "" : ": " + engine.reason));
  }
  for (const auto& note : r.notes) text += line("note", note);
  return text;
}

// All that succeeded, then one error for each of the others.
void show(const std::vector<QuantizeOutcome>& outcomes, bool json, Console& console) {
  std::string reports;
  std::vector<Error> failures;
  for (const QuantizeOutcome& outcome : outcomes) {
    if (outcome.report) {
      reports += (reports.empty() ? "" : json ? ",\n" : "\n") + (json ? outcome.report->to_json() : describe_run(*outcome.report));
    } else {
      failures.emplace_back(outcome.failure->code(), (outcomes.size() > 1 ? outcome.output + " was not made: " : "") + outcome.failure->what());
    }
  }
  if (failures.size() < outcomes.size()) console.print(json ? (outcomes.size() > 1 ? "[" + reports + "]\n" : reports + "\n") : reports);
  for (std::size_t i = 0; i + 1 < failures.size(); ++i) console.log().error(failures[i].what());
  if (!failures.empty()) throw failures.back();
}

void run(QuantizeCommand& c, Console& console) {
  c.options.recipe = recipe_of(c);
  if (c.format) c.options.format = format_from_name(*c.format);
  c.options.verify = !c.no_verify;
  if (c.verify) c.options.predict = true;
  c.options.threads = c.common.threads;
  c.options.progress = console.progress();
  c.options.command = console.command_line();
  std::vector<OtherOutput> others;
  for (const std::string& text : c.also) others.push_back(parse_also(text, c.options.recipe));
  const std::vector<QuantizeOutcome> outcomes = quantize_all(Checkpoint::open(c.model), c.options, others);
  console.clear_progress();
  show(outcomes, c.common.json, console);
}

}  // namespace

Command make_quantize(CLI::App& program) {
  auto command = std::make_shared<QuantizeCommand>();
  CLI::App* app = program.add_subcommand("quantize", "Make a model smaller");
  add_quantize_options(*app, *command);
  app->footer(kFooter);
  return {app, [command](Console& console) {
            command->common.apply(console);
            run(*command, console);
          }};
}

}  // namespace neap::cli
