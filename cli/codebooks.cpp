// neap codebooks: fit LO-BCQ's codebooks to models, and measure them.
#include "neap/codebooks.h"

#include <fmt/format.h>

#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "codebook_plot.h"
#include "commands.h"
#include "neap/error.h"
#include "options.h"

namespace neap::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFooter[] =
    "Neap ships a set of codebooks that serves every model; fitting others is for research.\n"
    "\n"
    "Examples:\n"
    "  neap codebooks fit model/ --text wiki.txt -o mine.json --plot mine.svg\n"
    "  neap codebooks fit model/ --text wiki.txt --layers odd --compare universal even.json\n"
    "  neap codebooks fit --synthetic --num-codebooks 16 -o synthetic.json";

constexpr char kUniversal[] = "universal";

struct FitCommand {
  std::vector<std::string> models, compare;
  std::string output, plot;
  CodebookOptions options;
  CommonOptions common;
};

void add_options(CLI::App& app, FitCommand& c) {
  CodebookOptions& o = c.options;
  app.add_option("MODEL", c.models, "models whose weights and layers' inputs are looked at")
      ->type_name("");
  app.add_option("--text", o.calibration.files,
                 "what the layers' inputs come from: plain text or .jsonl. Without: text\n"
                 "that the models write themselves")
      ->type_name("FILE...");
  app.add_option("--samples", o.calibration.samples, "windows of text\n")
      ->check(kPositive)
      ->type_name("N")
      ->default_str("all of the text; 8 of a model's own");
  app.add_option("--seqlen", o.calibration.length, "tokens of a window")
      ->check(kPositive)
      ->type_name("L")
      ->capture_default_str();
  app.add_flag("--synthetic", o.synthetic,
               "as much again of Gaussian, Laplace and Student-t arrays");
  app.add_option_function<std::string>(
         "--layers",
         [&o](const std::string& name) {
           using Layers = CodebookOptions::Layers;
           o.layers = name == "all" ? Layers::all : name == "even" ? Layers::even : Layers::odd;
         },
         "which blocks of a model: all, even or odd")
      ->check(CLI::IsMember({"all", "even", "odd"}))
      ->type_name("WHICH")
      ->default_str("all");
  app.add_option("--block-array", o.layout.block_array,
                 "values that share a scale: 16, 32, 64, 128")
      ->type_name("LA")
      ->capture_default_str();
  app.add_option("--block", o.layout.block, "values that share a codebook: 2, 4, 8")
      ->type_name("LB")
      ->capture_default_str();
  app.add_option("--num-codebooks", o.layout.codebooks, "2, 4, 8 or 16")
      ->type_name("NC")
      ->capture_default_str();
  app.add_option("--reservoir", o.reservoir,
                 "blocks of weights, and as many of inputs, that the fit sees\n")
      ->check(kPositive)
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--starts", o.starts, "random starts; the best is kept")
      ->check(CLI::Range(1, 1000))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--rounds", o.rounds, "how often, at most, scales are chosen anew")
      ->check(CLI::Range(0, 1000))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--seed", o.calibration.seed, "of sample, starts and self-written text")
      ->type_name("S")
      ->capture_default_str();
  app.add_option("--compare", c.compare,
                 "also measure these on the same blocks: files, or 'universal'")
      ->type_name("FILE...");
  app.add_option("-o,--output", c.output, "write the codebooks to this JSON file")
      ->type_name("FILE");
  app.add_option("--plot", c.plot, "draw them as SVG")->type_name("FILE");
  add_max_memory(app, o.max_memory);
  add_common(app, c.common, "print one JSON object instead of text");
}

void write(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) throw Error(ErrorCode::io, "cannot write", {.file = path});
}

std::string steps_table(const CodebookReport::Side& side) {
  std::string text = fmt::format("  {:<24} {:>10} {:>12} {:>12}\n", "phase", "iterations",
                                 "first error", "last error");
  for (std::size_t i = 0; i < side.steps.size();) {
    std::size_t last = i;
    while (last + 1 < side.steps.size() && side.steps[last + 1].phase == side.steps[i].phase)
      ++last;
    text += fmt::format("  {:<24} {:>10} {:>12.6f} {:>12.6f}\n", side.steps[i].phase, last - i,
                        side.steps[i].error, side.steps[last].error);
    i = last + 1;
  }
  return text;
}

std::string describe(const char* name, const CodebookReport::Side& side,
                     const std::vector<std::string>& compared) {
  std::string text = fmt::format("{}: {} of {} block arrays\n", name, count_text(side.arrays_kept),
                                 count_text(side.arrays_seen));
  text += steps_table(side);
  text += fmt::format("  relative error: scales from the maximum {:.6f}, searched {:.6f}\n",
                      side.maximum_error, side.error);
  for (std::size_t i = 0; i < compared.size(); ++i) {
    text += fmt::format("  {}, searched: {:.6f} ({:+.2f} %)\n", compared[i], side.compared[i],
                        100 * (side.compared[i] / side.error - 1));
  }
  return text;
}

Json json_of(const CodebookReport::Side& side) {
  Json steps = Json::array();
  for (const auto& s : side.steps)
    steps.push_back({{"phase", s.phase}, {"iteration", s.iteration}, {"error", s.error}});
  return {{"arrays_seen", side.arrays_seen},
          {"arrays_kept", side.arrays_kept},
          {"real_error", side.real_error},
          {"rounded_error", side.rounded_error},
          {"integer_error", side.integer_error},
          {"error", side.error},
          {"maximum_error", side.maximum_error},
          {"compared", side.compared},
          {"steps", steps}};
}

void run(FitCommand& c, Console& console) {
  require_valid(c.options.layout);
  if (c.models.empty() && !c.options.synthetic) {
    throw Error(ErrorCode::argument,
                "nothing to fit to: name a model, or ask for --synthetic arrays");
  }
  std::vector<Checkpoint> models;
  for (const std::string& model : c.models) models.push_back(Checkpoint::open(model));
  for (const std::string& name : c.compare) {
    c.options.compare.push_back(name == kUniversal ? universal_codebooks(c.options.layout)
                                                   : read_codebooks(name));
  }
  c.options.threads = c.common.threads;
  c.options.progress = console.progress();
  for (const std::string& output : {c.output, c.plot}) {
    require_not_read(output, c.models);
    require_not_read(output, c.options.calibration.files);
  }
  const CodebookReport report = make_codebooks(models, c.options);
  console.clear_progress();
  if (!c.output.empty()) save_codebooks(report.set, c.output);
  if (!c.plot.empty()) write(c.plot, codebook_plot(report.set));
  if (c.common.json) {
    const Json out = {{"codebooks", Json::parse(to_json(report.set))},
                      {"weights", json_of(report.weights)},
                      {"activations", json_of(report.activations)},
                      {"compared", c.compare},
                      {"seconds", report.seconds},
                      {"fit_seconds", report.fit_seconds}};
    return console.print(out.dump(2) + "\n");
  }
  console.print(
      describe("weights", report.weights, c.compare) +
      describe("activations", report.activations, c.compare) +
      fmt::format("{:.1f} s, {:.1f} s of it the fit\n", report.seconds, report.fit_seconds));
}

}  // namespace

Command make_codebooks(CLI::App& program) {
  auto command = std::make_shared<FitCommand>();
  CLI::App* app = program.add_subcommand("codebooks", "Fit LO-BCQ's codebooks to models");
  app->require_subcommand(1);
  CLI::App* fit = app->add_subcommand("fit", "Fit codebooks, and measure them");
  add_options(*fit, *command);
  fit->footer(kFooter);
  return {app, [command](Console& console) {
            command->common.apply(console);
            run(*command, console);
          }};
}

}  // namespace neap::cli
