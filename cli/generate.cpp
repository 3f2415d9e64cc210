// neap generate: text, as it comes.
#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "neap/calibration.h"
#include "neap/error.h"
#include "neap/model.h"
#include "options.h"
#include "utf8_stream.h"

namespace neap::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFooter[] =
    "Only what the model adds is printed. The same seed gives the same text.\n"
    "\n"
    "With --self-text the model writes from its start token, at temperature 1, what `neap quantize`\n"
    "and `neap eval` let it write when they are given no text, into a file that both of them take\n"
    "(--calib, --text). The two parts never share a window.\n"
    "\n"
    "Examples:\n"
    "  neap generate model.gguf -p \"The capital of Italy is\" -n 20\n"
    "  neap generate small-w4 --chat -p \"Why is the sky blue?\" --temperature 0.7 --top-p 0.9\n"
    "  neap generate model.gguf --self-text calibration.jsonl --windows 24 --seqlen 2048";

struct GenerateCommand {
  std::string model, prompt, self_text, part = "calibration";
  std::int64_t windows = 24, length = 2048;
  bool chat = false;
  SampleOptions sample;
  Precision precision = Precision::bf16;
  std::uint64_t max_memory = 0;
  PackedOptions kernels;
  CommonOptions common;
};

void add_options(CLI::App& app, GenerateCommand& c) {
  add_model(app, c.model);
  auto* prompt = app.add_option("-p,--prompt", c.prompt, "the text to go on from; without it, from nothing")->type_name("TEXT");
  app.add_flag("--chat", c.chat, "the prompt is a user's message, written as the model's template has it");
  app.add_option("-n,--max-tokens", c.sample.max_tokens, "tokens to write at most")
      ->check(kNotNegative)
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--temperature", c.sample.temperature, "0: always the likeliest token")
      ->check(CLI::Range(0.0, 100.0))
      ->type_name("T")
      ->capture_default_str();
  app.add_option("--top-k", c.sample.top_k, "draw from the K likeliest tokens; 0: all")
      ->check(kNotNegative)
      ->type_name("K")
      ->capture_default_str();
  app.add_option("--top-p", c.sample.top_p, "draw from the likeliest tokens that make up this probability")
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("P")
      ->capture_default_str();
  app.add_option("--seed", c.sample.seed, "of the random numbers")->type_name("S")->capture_default_str();
  app.add_option("--self-text", c.self_text, "instead of a prompt: write windows of text to FILE, see below")
      ->excludes(prompt)
      ->type_name("FILE.jsonl");
  app.add_option("--part", c.part, "calibration or evaluation")
      ->check(CLI::IsMember({"calibration", "evaluation"}))
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--windows", c.windows, "windows of --self-text")
      ->check(kPositive)
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--seqlen", c.length, "tokens of a window")
      ->check(kPositive)
      ->type_name("L")
      ->capture_default_str();
  add_precision(app, c.precision);
  add_max_memory(app, c.max_memory);
  add_kernels(app, c.kernels);
  add_common(app, c.common, "print one JSON object instead of the bare text");
}

std::vector<TokenId> prompt_ids(const GenerateCommand& c, const Tokenizer& tokenizer) {
  if (c.prompt.empty() && c.chat) throw Error(ErrorCode::argument, "--chat needs a --prompt");
  std::vector<TokenId> ids;
  if (c.chat) {
    const ChatMessage message{"user", c.prompt};
    ids = tokenizer.encode(render_chat(tokenizer, {&message, 1}, /*add_generation_prompt=*/true),
                           /*add_special=*/false);
  } else {
    ids = tokenizer.encode(c.prompt);
  }
  if (ids.empty() && tokenizer.bos()) ids.push_back(*tokenizer.bos());
  if (ids.empty()) throw Error(ErrorCode::argument, "an empty prompt, and the model has no start token");
  return ids;
}

void write_self_text(const GenerateCommand& c, Console& console) {
  const auto checkpoint = Checkpoint::open(c.model);
  const auto tokenizer = Tokenizer::open(checkpoint);
  const auto model = load_model(checkpoint, {.precision = c.precision,
                                            .max_memory = c.max_memory,
                                            .packed = packed_linears(c.kernels)});
  const auto part = c.part == "evaluation" ? SelfTextPart::evaluation : SelfTextPart::calibration;
  const auto text = write_windows(*model, tokenizer, part, c.windows, c.length, c.sample.seed,
                                  console.progress());
  save_windows(text, c.self_text);
  console.clear_progress();
  const Json out = {{"file", c.self_text}, {"windows", text.windows.size()}, {"tokens", text.tokens()},
                    {"xxh3", text.sources.at(0).hash}};
  console.print(c.common.json ? out.dump(2) + "\n"
                              : fmt::format("{}: {} windows, {} tokens\n", c.self_text,
                                            text.windows.size(), count_text(text.tokens())));
}

void go_on(const GenerateCommand& c, Console& console) {
  const auto checkpoint = Checkpoint::open(c.model);
  const auto tokenizer = Tokenizer::open(checkpoint);
  const auto prompt = prompt_ids(c, tokenizer);
  const auto model = load_model(checkpoint, {.precision = c.precision,
                                            .max_memory = c.max_memory,
                                            .packed = packed_linears(c.kernels)});

  Utf8Stream stream(tokenizer, prompt);
  std::string text;
  const auto emit = [&](const std::string& piece) {
    text += piece;
    if (c.common.json) return;
    console.print(piece);
    console.flush();
  };
  const auto start = std::chrono::steady_clock::now();
  const auto ids = generate(*model, prompt, tokenizer.eos(), c.sample, [&](TokenId id) {
    emit(stream.add(id));
    return Console::stop_signal() == 0;
  });
  emit(stream.rest());
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double speed = static_cast<double>(ids.size()) / std::max(seconds, 1e-9);
  if (c.common.json) {
    const Json out = {{"prompt_tokens", prompt.size()}, {"tokens", ids.size()}, {"ids", ids},
                      {"text", text}, {"seconds", seconds}, {"tokens_per_second", speed}};
    console.print(out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  } else {
    console.print("\n");
  }
  if (Console::stop_signal() != 0) throw Error(ErrorCode::cancelled, "stopped");
  console.log().info("{} tokens after {} of prompt, {:.1f} a second", ids.size(), prompt.size(), speed);
}

}  // namespace

Command make_generate(CLI::App& program) {
  auto command = std::make_shared<GenerateCommand>();
  CLI::App* app = program.add_subcommand("generate", "Let a model go on from a prompt");
  add_options(*app, *command);
  app->footer(kFooter);
  return {app, [command](Console& console) {
            command->common.apply(console);
            command->self_text.empty() ? go_on(*command, console) : write_self_text(*command, console);
          }};
}

}  // namespace neap::cli
