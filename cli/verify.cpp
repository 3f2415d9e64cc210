// neap verify: whether an output is whole, and how far it is from its source.
#include "neap/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>

#include "commands.h"
#include "neap/error.h"
#include "options.h"
#include "verify_text.h"

namespace neap::cli {
namespace {

constexpr char kFooter[] =
    "Exit status 0: every tensor is there, none besides, each in its shape and of finite numbers; where\n"
    "Neap's report lies beside the model, every byte is the one that was exported. Else one line says\n"
    "what is wrong. Errors of weights are |W^ - W| / |W|; a lattice decoder's are larger than rounding's,\n"
    "and its predictions nearer. KL is KL(source || OUT) in nats, over a page of text: a glance, for\n"
    "figures to quote use `neap eval`. `neap quantize` verifies all that it writes in this way already.\n"
    "\n"
    "Examples:\n"
    "  neap verify small-w4\n"
    "  neap verify small-w4 --against model/ --max-kl 0.2\n"
    "  neap verify model-Q4_0.gguf --against model/ --text notes.txt";

struct VerifyCommand {
  std::string model, against, text;
  VerifyOptions options;
  CommonOptions common;
};

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error(ErrorCode::io, "cannot open the text", {.file = path});
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void run(VerifyCommand& c, Console& console) {
  const Checkpoint output = Checkpoint::open(c.model);
  std::optional<Checkpoint> source;
  if (!c.against.empty()) source = Checkpoint::open(c.against);
  if (!c.text.empty()) c.options.text = read_text(c.text);
  if (!c.text.empty() && c.options.text.empty()) throw Error(ErrorCode::data, "no text", {.file = c.text});
  c.options.threads = c.common.threads;
  c.options.progress = console.progress();
  const VerifyReport report = verify(output, source ? &*source : nullptr, c.options);
  console.clear_progress();
  console.print(c.common.json ? report.to_json() + "\n" : line("model", output.path()) + describe(report));
}

}  // namespace

std::string line(std::string_view name, const std::string& value) { return fmt::format("{:<26}{}\n", name, value); }

std::string describe(const VerifyReport& r) {
  const auto percent = [](double squared) { return fmt::format("{:.3g} %", 100 * std::sqrt(squared)); };
  std::string text = line("verified", fmt::format("{} tensors, {}: whole, finite{}", r.tensors, size_text(r.bytes),
                                                  r.hashes ? ", the bytes that were exported"
                                                           : "; without Neap's report beside it, bits that changed would not show"));
  const bool equal = std::all_of(r.kinds.begin(), r.kinds.end(), [](const auto& kind) { return kind.mean == 0; });
  if (equal && !r.kinds.empty()) text += line("  weights", "equal to the source's, value for value");
  for (const auto& kind : r.kinds) {
    if (equal) break;
    text += line("  " + kind.name, fmt::format("{} off the source's weights, worst {}: {}", percent(kind.mean), percent(kind.worst.error), kind.worst.module));
  }
  if (r.divergence) {
    text += line("  predictions", fmt::format("KL {:.4f} +/- {:.4f} nats, same likeliest token {:.1f} %, perplexity {:.2f}, the source's {:.2f} ({} tokens)",
                                              r.divergence->kl.mean, r.divergence->kl.error, 100 * r.divergence->same_top.mean,
                                              r.perplexity, r.divergence->reference.value, r.predicted));
  } else if (r.predicted > 0) {
    text += line("  predictions", fmt::format("perplexity {:.2f} ({} tokens)", r.perplexity, r.predicted));
  }
  for (const auto& note : r.notes) text += line("  note", note);
  return text;
}

Command make_verify(CLI::App& program) {
  auto command = std::make_shared<VerifyCommand>();
  CLI::App* app = program.add_subcommand("verify", "Check an output: whole, as exported, near its source");
  add_model(*app, command->model);
  CLI::Option* against = app->add_option("--against", command->against, "the model that it was made from")->type_name("MODEL");
  app->add_option("--text", command->text, "text to predict; only its beginning is")
      ->type_name("FILE")
      ->default_str("a page that Neap brings");
  app->add_option("--tokens", command->options.tokens, "tokens of it at most; 0: do not predict")
      ->check(kNotNegative)
      ->type_name("N")
      ->capture_default_str();
  app->add_option("--max-kl", command->options.max_kl, "fail where KL from the source is more")
      ->check(CLI::Range(0.0, 1e6))
      ->needs(against)
      ->type_name("NATS")
      ->default_str("any will do");
  add_common(*app, command->common, "print one JSON object instead of text");
  app->footer(kFooter);
  return {app, [command](Console& console) {
            command->common.apply(console);
            run(*command, console);
          }};
}

}  // namespace neap::cli
