// neap generate: text, as it comes.
#include <fmt/format.h>

#include <chrono>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "chat_prompt.h"
#include "commands.h"
#include "neap/calibration.h"
#include "neap/error.h"
#include "neap/generate.h"
#include "neap/model.h"
#include "neap/text_stream.h"
#include "options.h"

namespace neap::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFooter[] =
    "Only what the model adds is printed, as it comes; of several prompts all texts at the end, in\n"
    "order. The same seed gives the same text, whatever else is written beside it.\n"
    "\n"
    "With --self-text the model writes from its start token, at temperature 1, what `neap quantize`\n"
    "and `neap eval` let it write when they are given no text, into a file that both of them take\n"
    "(--calib, --text). The two parts never share a window.\n"
    "\n"
    "Examples:\n"
    "  neap generate model.gguf -p \"The capital of Italy is\" -n 20\n"
    "  neap generate small-w4 --chat -p \"Why is the sky blue?\" --temperature 0.7 --top-p 0.9\n"
    "  neap generate model.gguf --prompts questions.txt --chat --stop \"User:\" --json\n"
    "  neap generate model.gguf --self-text calibration.jsonl --windows 24 --seqlen 2048";

struct GenerateCommand {
  std::string model, prompts_file, self_text, part = "calibration";
  std::vector<std::string> prompts, stops;
  std::int64_t windows = 24, length = 2048, at_once = 8;
  bool chat = false;
  ChatOptions chat_options;
  SampleOptions sample;
  Precision precision = Precision::bf16;
  std::optional<KvType> kv_type;
  std::uint64_t max_memory = 0;
  ScaleChoice activation_scales = ScaleChoice::maximum;
  PackedOptions kernels;
  CommonOptions common;

  LoadOptions load_options() const {
    return {.precision = precision,
            .max_memory = max_memory,
            .input_scales = activation_scales,
            .kv_type = kv_type,
            .packed = packed_linears(kernels)};
  }
};

void add_self_text(CLI::App& app, GenerateCommand& c) {
  app.add_option("--self-text", c.self_text,
                 "instead of a prompt: write windows of text to FILE, see below")
      ->excludes("--prompt")
      ->excludes("--prompts")
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
}

void add_options(CLI::App& app, GenerateCommand& c) {
  add_model(app, c.model);
  app.add_option("-p,--prompt", c.prompts,
                 "the text to go on from; without it, from nothing. Several\n"
                 "(-p TEXT -p TEXT) are gone on from side by side")
      ->expected(1)
      ->allow_extra_args(false)  // else "[a]" would be taken as a list
      ->take_all()
      ->type_name("TEXT");
  app.add_option("--prompts", c.prompts_file, "prompts, one a line; *.jsonl: {\"prompt\": \"...\"} a line")
      ->excludes("--prompt")
      ->type_name("FILE");
  app.add_option("--at-once", c.at_once, "of several prompts, so many side by side")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{4096}))
      ->type_name("N")
      ->capture_default_str();
  app.add_flag("--chat", c.chat, "a prompt is a user's message, written as the model's template has it");
  add_chat_options(app, c.chat_options);
  app.add_option("-n,--max-tokens", c.sample.max_tokens, "tokens to write at most")
      ->check(kNotNegative)
      ->type_name("N")
      ->capture_default_str();
  add_sampling(app, c.sample);
  app.add_option("--stop", c.stops, "end before this text; may be given several times")
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all()
      ->type_name("TEXT");
  add_self_text(app, c);
  add_precision(app, c.precision);
  add_kv_cache(app, c.kv_type);
  add_max_memory(app, c.max_memory);
  add_kernels(app, c.kernels);
  add_activation_scales(app, c.activation_scales);
  add_common(app, c.common, "print one JSON object instead of the bare text");
}

std::vector<std::string> read_prompts(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw Error(ErrorCode::io, "cannot read prompts", {.file = path});
  std::vector<std::string> prompts;
  std::int64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.empty()) continue;
    if (!path.ends_with(".jsonl")) {
      prompts.push_back(line);
      continue;
    }
    const Json object = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object() || !object.contains("prompt") || !object["prompt"].is_string()) {
      throw Error(ErrorCode::format, fmt::format("line {} is no prompt", number),
                  {.file = path, .expected = "{\"prompt\": \"...\"}", .found = line.substr(0, 60)});
    }
    prompts.push_back(object["prompt"].get<std::string>());
  }
  if (prompts.empty()) throw Error(ErrorCode::data, "no prompt in the file", {.file = path});
  return prompts;
}

std::vector<TokenId> prompt_ids(const GenerateCommand& c, const std::string& prompt,
                                const Tokenizer& tokenizer) {
  if (prompt.empty() && c.chat) throw Error(ErrorCode::argument, "--chat needs a --prompt");
  std::vector<TokenId> ids;
  if (c.chat) {
    const ChatMessage message{"user", prompt};
    ids = ChatPrompt(tokenizer, c.chat_options).ids({&message, 1});
  } else {
    ids = tokenizer.encode(prompt);
  }
  if (ids.empty() && tokenizer.bos()) ids.push_back(*tokenizer.bos());
  if (ids.empty()) throw Error(ErrorCode::argument, "an empty prompt, and the model has no start token");
  return ids;
}

void write_self_text(const GenerateCommand& c, Console& console) {
  require_not_read(c.self_text, {c.model});
  const auto checkpoint = Checkpoint::open(c.model);
  const auto tokenizer = Tokenizer::open(checkpoint);
  const auto model = load_model(checkpoint, c.load_options());
  const auto part = c.part == "evaluation" ? SelfTextPart::evaluation : SelfTextPart::calibration;
  const auto text = write_windows(*model, tokenizer, part, c.windows, c.length, c.sample.seed,
                                  console.progress(), c.common.threads);
  save_windows(text, c.self_text);
  console.clear_progress();
  const Json out = {{"file", c.self_text}, {"windows", text.windows.size()}, {"tokens", text.tokens()},
                    {"xxh3", text.sources.at(0).hash}};
  console.print(c.common.json ? out.dump(2) + "\n"
                              : fmt::format("{}: {} windows, {} tokens\n", c.self_text,
                                            text.windows.size(), count_text(text.tokens())));
}

// One prompt's text as it grows.
struct Text {
  std::vector<TokenId> prompt, ids;
  TextStream stream;
  std::string text;
  Ending ending = Ending::max_tokens;

  Text(const Tokenizer& tokenizer, std::vector<TokenId> prompt_, const std::vector<std::string>& stops)
      : prompt(std::move(prompt_)), stream(tokenizer, prompt, stops) {}

  std::string add(TokenId id) { return keep(stream.add(id)); }
  std::string finish() { return keep(stream.rest()); }

 private:
  std::string keep(std::string piece) {
    text += piece;
    return piece;
  }
};

std::string name_of(const Text& text) {
  if (text.stream.stopped()) return "stop_text";
  return text.ending == Ending::end_token    ? "end_token"
         : text.ending == Ending::max_tokens ? "max_tokens"
                                             : "interrupted";
}

Json json_of(const Text& text) {
  return {{"prompt_tokens", text.prompt.size()},
          {"tokens", text.ids.size()},
          {"ids", text.ids},
          {"text", text.text},
          {"ending", name_of(text)}};
}

struct Timing {
  std::size_t prompt_tokens = 0, tokens = 0;
  double seconds = 0;

  double speed() const { return static_cast<double>(tokens) / std::max(seconds, 1e-9); }
};

void print_texts(const std::vector<Text>& texts, const Timing& timing, bool json, Console& console) {
  if (!json) {
    for (std::size_t i = 0; i < texts.size(); ++i) {
      // A single text has been printed as it came.
      console.print(texts.size() == 1
                        ? "\n"
                        : fmt::format("[{}/{}]\n{}\n", i + 1, texts.size(), texts[i].text));
    }
    return;
  }
  Json out = texts.size() == 1 ? json_of(texts[0]) : Json{{"texts", Json::array()}};
  for (std::size_t i = 0; i < texts.size() && texts.size() > 1; ++i) {
    out["texts"].push_back(json_of(texts[i]));
  }
  out["seconds"] = timing.seconds;
  out["tokens_per_second"] = timing.speed();
  console.print(out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Timing write(LanguageModel& model, const Tokenizer& tokenizer, const GenerateCommand& c,
             std::vector<Text>& texts, Console& console) {
  const bool streams = texts.size() == 1 && !c.common.json;
  const auto emit = [&](const std::string& piece) {
    if (!streams || piece.empty()) return;
    console.print(piece);
    console.flush();
  };
  std::vector<std::vector<TokenId>> prompts;
  for (const Text& text : texts) prompts.push_back(text.prompt);
  SampleOptions options = c.sample;
  options.threads = c.common.threads;
  const auto start = std::chrono::steady_clock::now();
  const auto completions = generate_all(
      model, prompts, tokenizer.eos(), options, static_cast<std::size_t>(c.at_once),
      [&](std::size_t i, TokenId id) {
        emit(texts[i].add(id));
        if (texts.size() > 1 && Console::stop_signal() != 0) {
          throw Error(ErrorCode::cancelled, "stopped");  // prompts that wait need not begin
        }
        return !texts[i].stream.stopped() && Console::stop_signal() == 0;
      });
  Timing timing;
  timing.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (std::size_t i = 0; i < texts.size(); ++i) {
    emit(texts[i].finish());
    texts[i].ids = completions[i].tokens;
    texts[i].ending = completions[i].ending;
    timing.prompt_tokens += texts[i].prompt.size();
    timing.tokens += texts[i].ids.size();
  }
  return timing;
}

void go_on(const GenerateCommand& c, Console& console) {
  const auto checkpoint = Checkpoint::open(c.model);
  const auto tokenizer = Tokenizer::open(checkpoint);
  std::vector<std::string> prompts = c.prompts_file.empty() ? c.prompts : read_prompts(c.prompts_file);
  if (prompts.empty()) prompts.emplace_back();
  std::vector<Text> texts;
  for (const std::string& prompt : prompts) {
    texts.emplace_back(tokenizer, prompt_ids(c, prompt, tokenizer), c.stops);
  }
  const auto model = load_model(checkpoint, c.load_options());
  const Timing timing = write(*model, tokenizer, c, texts, console);
  print_texts(texts, timing, c.common.json, console);
  if (Console::stop_signal() != 0) throw Error(ErrorCode::cancelled, "stopped");
  console.log().info("{} tokens after {} of prompt, {:.1f} a second", timing.tokens,
                     timing.prompt_tokens, timing.speed());
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
