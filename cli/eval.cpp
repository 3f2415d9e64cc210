// neap eval: perplexity, divergence from a reference, multiple-choice accuracy.
#include "neap/eval.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "commands.h"
#include "neap/error.h"
#include "options.h"

namespace neap::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kGptqWindow = 2048, kLlamaCppWindow = 512;
constexpr std::int64_t kSelfWindows = 12;  // of the model's own text, when none is given
constexpr std::uint64_t kSelfSeed = 42;

constexpr char kFooter[] =
    "Conventions of perplexity (figures of different ones do not compare):\n"
    "  gptq      the text is tokenized whole and cut into windows; every token of a window but\n"
    "            the first is predicted. What papers on quantization report.\n"
    "  llamacpp  as llama.cpp's perplexity tool: windows of 512, each begins with the start token\n"
    "            where the model has one, and only its second half is predicted.\n"
    "Errors are standard errors with tokens taken as independent; that of perplexity is perplexity\n"
    "times the error of the mean negative log-likelihood. KL is KL(reference || model) in nats over\n"
    "the whole vocabulary at each predicted token.\n"
    "\n"
    "A file of tasks has one JSON object a line: \"context\" (or \"question\", for the context\n"
    "\"Question: ...\\nAnswer:\"), \"choices\" (two or more texts) and \"answer\" (an index from 0, or\n"
    "a letter from A):\n"
    "  {\"context\": \"The sky is\", \"choices\": [\"blue\", \"a lake\"], \"answer\": 0}\n"
    "\n"
    "Examples:\n"
    "  neap eval small-w4 --reference meta-llama/Llama-3.2-1B --text wiki.test.raw\n"
    "  neap eval model.gguf --text wiki.test.raw --ppl-mode llamacpp\n"
    "  neap eval model/ --tasks arc.jsonl --json";

struct EvalCommand {
  std::string model, reference, mode_name = "gptq", tasks, activations = "stored", codebooks, logit_file;
  std::vector<std::string> texts;
  std::int64_t window = 0, windows = 0;
  Precision precision = Precision::bf16;
  std::optional<KvType> kv_type;  // of MODEL alone
  std::uint64_t max_memory = 0;
  ScaleChoice activation_scales = ScaleChoice::maximum;
  PackedOptions kernels;
  bool simulate = false;
  CommonOptions common;
};

void add_options(CLI::App& app, EvalCommand& c) {
  add_model(app, c.model);
  app.add_option("--reference", c.reference, "the model to compare with, usually the original")
      ->type_name("MODEL");
  app.add_option("--text", c.texts,
                 "text to predict: plain text, or .jsonl with {\"text\"}, {\"messages\"} or\n"
                 "{\"ids\"} lines; several files are joined. Without text and tasks: 12\n"
                 "windows that the reference (or the model) writes itself, the same ones\n"
                 "each time and none that `neap quantize` calibrates on")
      ->type_name("FILE...");
  app.add_option("--window", c.window, "tokens of a window")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 24))
      ->type_name("N")
      ->default_str("2048; 512 with llamacpp");
  app.add_option("--windows", c.windows, "evaluate the first N windows only")
      ->check(kPositive)
      ->type_name("N")
      ->default_str("all");
  app.add_option("--ppl-mode", c.mode_name, "convention of perplexity: gptq or llamacpp, see below")
      ->check(CLI::IsMember({"gptq", "llamacpp"}))
      ->type_name("MODE")
      ->capture_default_str();
  app.add_option("--save-logits", c.logit_file,
                 "with --ppl-mode llamacpp: write the log-probabilities of MODEL for\n"
                 "`llama-perplexity --kl-divergence --kl-divergence-base FILE`, which then\n"
                 "measures a model in llama.cpp against this one; 2 bytes a token of the\n"
                 "vocabulary for each predicted token")
      ->type_name("FILE");
  app.add_option("--tasks", c.tasks, "multiple-choice questions, see below")->type_name("FILE.jsonl");
  app.add_option("--activations", c.activations,
                 "what the linear layers of MODEL read. stored: as its file says;\n"
                 "keep: 16 bits; lobcq, nvfp4, mxfp4, int4: in that 4-bit format, whatever\n"
                 "its weights are\n")
      ->check(CLI::IsMember({"stored", "keep", "lobcq", "nvfp4", "mxfp4", "int4"}))
      ->type_name("HOW")
      ->capture_default_str();
  app.add_option("--codebooks", c.codebooks, "those of --activations lobcq\n")
      ->type_name("FILE.json")
      ->default_str("those in MODEL, or that Neap ships");
  add_precision(app, c.precision);
  add_kv_cache(app, c.kv_type);
  add_max_memory(app, c.max_memory);
  add_kernels(app, c.kernels);
  add_activation_scales(app, c.activation_scales);
  app.add_flag("--simulate", c.simulate, "decode quantized layers instead of running packed bytes")
      ->excludes("--int8")
      ->excludes("--head")
      ->excludes("--embedding");
  add_common(app, c.common, "print one JSON object instead of text");
}

// A checkpoint with its tokenizer, and the model once it is loaded.
struct Subject {
  Checkpoint checkpoint;
  Tokenizer tokenizer;
  std::unique_ptr<LanguageModel> model;

  explicit Subject(const std::string& name)
      : checkpoint(Checkpoint::open(name)), tokenizer(Tokenizer::open(checkpoint)) {}
};

struct Outcome {
  std::optional<TokenWindows> text;
  EvalWindows windows;
  std::optional<EvalResult> result;
  std::optional<ChoiceResult> choices, reference_choices;
  double seconds = 0;
};

class Evaluation {
 public:
  Evaluation(const EvalCommand& command, Console& console) : c_(command), console_(console) {
    mode_ = perplexity_mode_from_name(c_.mode_name);
    window_ = c_.window > 0 ? c_.window
                            : mode_ == PerplexityMode::gptq ? kGptqWindow : kLlamaCppWindow;
    options_.threads = c_.common.threads;
    options_.logit_file = c_.logit_file;
    options_.progress = console.progress();
  }

  void run() {
    const auto start = std::chrono::steady_clock::now();
    if (!c_.codebooks.empty() && c_.activations != "lobcq") {
      throw Error(ErrorCode::argument, "--codebooks", {.expected = "--activations lobcq", .found = c_.activations});
    }
    if (!c_.logit_file.empty() && mode_ != PerplexityMode::llamacpp) {
      throw Error(ErrorCode::argument, "--save-logits", {.expected = "--ppl-mode llamacpp", .found = c_.mode_name});
    }
    require_not_read(c_.logit_file, {c_.model, c_.reference, c_.tasks});
    require_not_read(c_.logit_file, c_.texts);
    std::vector<ChoiceTask> tasks;  // first, because a bad file should cost no time
    if (!c_.tasks.empty()) tasks = read_choice_tasks(c_.tasks);
    ours_.emplace(c_.model);
    if (!c_.reference.empty()) theirs_.emplace(c_.reference);
    if (!c_.texts.empty()) read_text();
    load();
    if (c_.texts.empty() && tasks.empty()) write_text();
    if (outcome_.text) evaluate_text();
    if (!tasks.empty()) evaluate_tasks(tasks);
    outcome_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    console_.clear_progress();
    c_.common.json ? print_json() : print_text();
  }

 private:
  void read_text() {
    outcome_.text = read_windows(c_.texts, ours_->tokenizer, 0, window_);
    if (theirs_) {
      const auto same = read_windows(c_.texts, theirs_->tokenizer, 0, window_);
      if (same.windows != outcome_.text->windows) {
        throw Error(ErrorCode::argument,
                    "the tokenizers of model and reference give different tokens for this text",
                    {.file = ours_->checkpoint.path()});
      }
    }
    cut();
  }

  void write_text() {
    Subject& author = theirs_ ? *theirs_ : *ours_;
    console_.log().info("no --text: {} writes {} windows of {} tokens",
                        theirs_ ? "the reference" : "the model", self_windows(), window_);
    outcome_.text = write_windows(*author.model, author.tokenizer, SelfTextPart::evaluation,
                                  self_windows(), window_, kSelfSeed, options_.progress);
    cut();
  }

  std::int64_t self_windows() const { return c_.windows > 0 ? c_.windows : kSelfWindows; }

  void cut() {
    outcome_.windows = make_eval_windows(*outcome_.text, ours_->tokenizer, mode_, window_, c_.windows);
    const std::int64_t positions = read_config(ours_->checkpoint).max_positions;
    if (positions > 0 && window_ > positions) {
      console_.log().warn("windows of {} tokens are longer than the {} that the model was made for",
                          window_, positions);
    }
  }

  void load() {
    LoadOptions options{.precision = c_.precision, .max_memory = c_.max_memory};
    if (options.max_memory == 0) options.max_memory = half_of_memory();
    if (theirs_) options.max_memory /= 2;
    LoadOptions how = options;
    how.kv_type = c_.kv_type;
    how.inputs = input_coding_from_name(c_.activations);
    how.input_scales = c_.activation_scales;
    if (!c_.codebooks.empty()) how.codebooks = read_codebooks(c_.codebooks);
    if (!c_.simulate) how.packed = packed_linears(c_.kernels);
    ours_->model = load_model(ours_->checkpoint, how);
    if (theirs_) theirs_->model = load_model(theirs_->checkpoint, options);
  }

  void evaluate_text() {
    outcome_.result = evaluate(*ours_->model, theirs_ ? theirs_->model.get() : nullptr,
                               outcome_.windows.windows, options_);
  }

  void evaluate_tasks(const std::vector<ChoiceTask>& tasks) {
    outcome_.choices = evaluate_choices(*ours_->model, ours_->tokenizer, tasks, options_);
    if (theirs_) {
      outcome_.reference_choices =
          evaluate_choices(*theirs_->model, theirs_->tokenizer, tasks, options_);
    }
  }

  void print_json();
  void print_text();
  Json text_json() const;

  const EvalCommand& c_;
  Console& console_;
  PerplexityMode mode_ = PerplexityMode::gptq;
  std::int64_t window_ = 0;
  EvalOptions options_;
  std::optional<Subject> ours_, theirs_;
  Outcome outcome_;
};

Json json_of(const Estimate& estimate) {
  return {{"mean", estimate.mean}, {"error", estimate.error}};
}

Json json_of(const ChoiceResult& r) {
  return {{"tasks", r.tasks},
          {"accuracy", r.accuracy.mean},
          {"accuracy_error", r.accuracy.error},
          {"accuracy_normalized", r.accuracy_normalized.mean},
          {"accuracy_normalized_error", r.accuracy_normalized.error}};
}

void put(Json& out, const std::string& prefix, const Perplexity& p) {
  out[prefix + "perplexity"] = p.value;
  out[prefix + "perplexity_error"] = p.error;
  out[prefix + "nll"] = json_of(p.nll);
}

void put(Json& out, const Divergence& d) {
  put(out, "reference_", d.reference);
  out["log_perplexity_ratio"] = json_of(d.log_ratio);
  out["kl"] = {{"mean", d.kl.mean},   {"error", d.kl.error}, {"median", d.kl_median},
               {"p90", d.kl_p90},     {"p95", d.kl_p95},     {"p99", d.kl_p99},
               {"p99.9", d.kl_p999},  {"max", d.kl_max}};
  out["same_top"] = json_of(d.same_top);
  out["rms_probability_change"] = d.rms_probability;
}

Json Evaluation::text_json() const {
  Json texts = Json::array();
  for (const auto& s : outcome_.text->sources) {
    texts.push_back({{"name", s.name}, {"xxh3", s.hash}, {"tokens", s.tokens}});
  }
  return texts;
}

void Evaluation::print_json() {
  Json out = {{"model", ours_->checkpoint.path()}};
  if (theirs_) out["reference"] = theirs_->checkpoint.path();
  out["precision"] = c_.precision == Precision::f32 ? "f32" : "bf16";
  out["activations"] = c_.activations;
  out.update(kernels_json(c_.kernels, c_.activation_scales));
  if (outcome_.result) {
    out["texts"] = text_json();
    out["ppl_mode"] = name_of(mode_);
    out["window"] = window_;
    out["windows"] = outcome_.windows.windows.size();
    out["dropped_tokens"] = outcome_.windows.dropped;
    out["predicted_tokens"] = outcome_.result->perplexity.tokens;
    put(out, "", outcome_.result->perplexity);
    if (outcome_.result->divergence) put(out, *outcome_.result->divergence);
  }
  if (outcome_.choices) out["choices"] = json_of(*outcome_.choices);
  if (outcome_.reference_choices) out["reference_choices"] = json_of(*outcome_.reference_choices);
  out["seconds"] = outcome_.seconds;
  console_.print(out.dump(2) + "\n");
}

// One result a line, names in a column.
std::string line(std::string_view name, const std::string& value) {
  return fmt::format("{:<24}{}\n", name, value);
}

std::string percent(const Estimate& e) {
  return fmt::format("{:.2f} +/- {:.2f} %", 100 * e.mean, 100 * e.error);
}

std::string describe(const Divergence& d) {
  const auto ratio = std::exp(d.log_ratio.mean);
  return line("reference perplexity", fmt::format("{:.4f} +/- {:.4f}", d.reference.value, d.reference.error)) +
         line("ratio of the two", fmt::format("{:.5f} +/- {:.5f}", ratio, ratio * d.log_ratio.error)) +
         line("KL divergence, mean", fmt::format("{:.6f} +/- {:.6f} nats", d.kl.mean, d.kl.error)) +
         line("  median, maximum", fmt::format("{:.6f}, {:.4f}", d.kl_median, d.kl_max)) +
         line("  90, 95, 99, 99.9 %", fmt::format("{:.5f}, {:.5f}, {:.5f}, {:.5f}", d.kl_p90, d.kl_p95,
                                                  d.kl_p99, d.kl_p999)) +
         line("same likeliest token", percent(d.same_top)) +
         line("RMS probability change", fmt::format("{:.3f} %", 100 * d.rms_probability));
}

std::string describe(const std::string& whose, const ChoiceResult& r) {
  return line(whose + "accuracy", fmt::format("{} of {} tasks", percent(r.accuracy), r.tasks)) +
         line("  per byte of choice", percent(r.accuracy_normalized));
}

void Evaluation::print_text() {
  std::string out = line("model", ours_->checkpoint.path());
  if (theirs_) out += line("reference", theirs_->checkpoint.path());
  if (outcome_.result) {
    for (const auto& s : outcome_.text->sources) {
      out += line("text", fmt::format("{}, {} tokens, XXH3 {}", s.name, count_text(s.tokens), s.hash));
    }
    const Perplexity& p = outcome_.result->perplexity;
    const auto& cut = outcome_.windows;
    out += line("windows", fmt::format("{} of {} tokens, {} predicted{}", cut.windows.size(), window_,
                                       count_text(p.tokens),
                                       cut.dropped ? fmt::format("; {} at the end left out", cut.dropped)
                                                   : ""));
    out += line(fmt::format("perplexity ({})", name_of(mode_)),
                fmt::format("{:.4f} +/- {:.4f}", p.value, p.error));
    if (outcome_.result->divergence) out += describe(*outcome_.result->divergence);
  }
  if (outcome_.choices) out += describe("", *outcome_.choices);
  if (outcome_.reference_choices) out += describe("reference ", *outcome_.reference_choices);
  console_.print(out);
}

}  // namespace

Command make_eval(CLI::App& program) {
  auto command = std::make_shared<EvalCommand>();
  CLI::App* app = program.add_subcommand("eval", "Measure a model: perplexity, divergence, accuracy");
  add_options(*app, *command);
  app->footer(kFooter);
  return {app, [command](Console& console) {
            command->common.apply(console);
            Evaluation(*command, console).run();
          }};
}

}  // namespace neap::cli
