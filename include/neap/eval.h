// How good a model is: perplexity, divergence from a reference model, accuracy on multiple-choice
// questions. Everything sees models as LanguageModel, so dense, simulated and packed models are
// measured by the same code.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "neap/calibration.h"
#include "neap/model.h"
#include "neap/progress.h"
#include "neap/tokenizer.h"

namespace neap {

// Tokens that are run from position 0; the model is judged on how it predicts tokens[first ..].
struct EvalWindow {
  std::vector<TokenId> tokens;
  std::size_t first = 1;  // in [1, tokens.size())
};

enum class PerplexityMode {
  gptq,      // every token of a window but its first is predicted (arXiv 2210.17323 and its successors)
  llamacpp,  // as llama.cpp's perplexity tool: only the second half of a window is predicted, and the
             // window's first token is replaced by the start token where the tokenizer adds one
};
PerplexityMode perplexity_mode_from_name(const std::string& name);  // throws Error(argument)
std::string name_of(PerplexityMode mode);

struct EvalWindows {
  std::vector<EvalWindow> windows;
  std::int64_t dropped = 0;  // tokens in windows shorter than asked for: the end of the text
};

// Keeps the first `limit` windows (0: all) of at least `length` tokens. Throws Error(data) with the
// tokens needed and found if none is that long.
EvalWindows make_eval_windows(const TokenWindows& text, const Tokenizer& tokenizer,
                              PerplexityMode mode, std::int64_t length, std::int64_t limit = 0);

struct Estimate {
  double mean = 0;
  double error = 0;  // standard error of the mean, values taken as independent
};

struct Perplexity {
  std::int64_t tokens = 0;  // predicted tokens
  Estimate nll;             // of a token, in nats
  double value = 0;         // exp(nll.mean)
  double error = 0;         // value * nll.error (first order), as llama.cpp has it
};

// Over the full vocabulary at every predicted token. KL is KL(reference || model), in nats.
struct Divergence {
  Estimate kl;
  double kl_median = 0, kl_p90 = 0, kl_p95 = 0, kl_p99 = 0, kl_p999 = 0, kl_max = 0;
  Estimate same_top;           // share of tokens where both find the same token likeliest
  double rms_probability = 0;  // root mean square of p_model - p_reference of the text's own token
  Perplexity reference;
  Estimate log_ratio;          // of nll_model - nll_reference: the log of the ratio of perplexities
};

struct EvalResult {
  Perplexity perplexity;
  std::optional<Divergence> divergence;  // with a reference
};

struct EvalOptions {
  // Tokens that go through a model at once. More read a model that does not fit in memory less
  // often; states take hidden * 4 bytes for each, per model.
  std::int64_t batch_tokens = 8192;
  int threads = 0;  // 0: OpenMP's default
  // If not empty: a file that the model's log-probabilities are written to, in 16 bits each, as llama-perplexity's
  // --kl-divergence-base has them. For windows of PerplexityMode::llamacpp; whole or absent.
  std::string logit_file = {};
  ProgressCallback progress;
};

// Runs model and reference (or null) over the same windows in lockstep; softmax statistics in fp32
// with fp64 sums, never more logits in memory than a tile of rows. Same result at any thread count
// and batch size. Throws Error(data) naming window and position at a logit that is not finite,
// Error(argument) if the vocabularies differ in size, Error(io) for options.logit_file.
EvalResult evaluate(LanguageModel& model, LanguageModel* reference,
                    const std::vector<EvalWindow>& windows, const EvalOptions& options = {});

struct ChoiceTask {
  std::string context;
  std::vector<std::string> choices;  // two or more, none empty
  std::size_t answer = 0;            // index of the right one
};

// One JSON object a line:
//   {"context": "The sky is", "choices": ["blue", "a lake"], "answer": 0}
//   {"question": "What is the sky?", "choices": ["Blue.", "A lake."], "answer": "A"}
// `question` stands for the context "Question: ...\nAnswer:". `answer` is an index from 0 or a letter
// from A. Other keys are ignored. Throws Error(format) naming the line.
std::vector<ChoiceTask> read_choice_tasks(const std::string& path);

struct ChoiceResult {
  std::int64_t tasks = 0;
  Estimate accuracy;             // the choice of the largest log-likelihood is the right one
  Estimate accuracy_normalized;  // ... of the largest log-likelihood per UTF-8 byte of the choice
};

// As lm-evaluation-harness scores them: a space stands between context and choice (unless one of them
// has white space there), trailing white space of the context belongs to the choice, and the choice's
// tokens are those beyond the number of the context's own.
ChoiceResult evaluate_choices(LanguageModel& model, const Tokenizer& tokenizer,
                              const std::vector<ChoiceTask>& tasks, const EvalOptions& options = {});

}  // namespace neap
