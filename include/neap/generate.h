// Text from a model: which token comes next, for one sequence or many, and texts that grow by turns.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "neap/model.h"
#include "neap/tokenizer.h"

namespace neap {

// How the next token is chosen from its logits, in this order (transformers' own): repetition penalty,
// temperature, top_k, top_p of what is left, min_p of what is left.
struct SampleOptions {
  std::int64_t max_tokens = 128;
  double temperature = 0;         // 0: the likeliest
  std::int64_t top_k = 0;         // the likeliest so many; 0: all
  double top_p = 1;               // the fewest likeliest that together have this probability
  double min_p = 0;               // those that have at least this share of the likeliest's probability
  double repetition_penalty = 1;  // of tokens in prompt or text: logits above 0 are divided by it, others
                                  // multiplied
  std::uint64_t seed = 42;
  bool stop_at_eos = true;
  int threads = 0;  // 0: OpenMP's default
};

enum class Ending { end_token, max_tokens, stopped };  // stopped: on_token wanted no more

struct Completion {
  std::vector<TokenId> tokens;  // new ones, without the end token
  Ending ending = Ending::max_tokens;
};

// All of these: `model` must come from load_model. Sequence s draws from a random stream of its own,
// (seed, s); its result depends neither on the other sequences nor on the thread count. Throws
// Error(argument) for an empty prompt, ids outside of the vocabulary, or options out of range.

// Continues `prompt`; on_token sees each new id as it comes and returns false to stop.
Completion generate(LanguageModel& model, std::span<const TokenId> prompt,
                    const std::vector<TokenId>& eos, const SampleOptions& options,
                    const std::function<bool(TokenId)>& on_token = {});

// The same for prompts of any lengths, `at_once` of them side by side: a step reads the weights once
// for all of these. Whenever one has ended, the next prompt takes its place.
std::vector<Completion> generate_all(
    LanguageModel& model, std::span<const std::vector<TokenId>> prompts,
    const std::vector<TokenId>& eos, const SampleOptions& options, std::size_t at_once,
    const std::function<bool(std::size_t sequence, TokenId)>& on_token = {});

// Continues prompts of equal length, each to exactly max_tokens new tokens, end tokens included as
// ordinary ones. prompts: (sequences, prompt length). Returns (sequences, max_tokens) new ids,
// row-major. on_step sees the number of each step, from 0, when its tokens are drawn; returning false
// throws Error(cancelled).
std::vector<TokenId> generate_batch(LanguageModel& model, std::span<const TokenId> prompts,
                                    std::size_t sequences, const SampleOptions& options,
                                    const std::function<bool(std::int64_t step)>& on_step = {});

// A text that grows turn by turn: what the model has read stays in its cache, so that a turn costs
// its new tokens only.
class TextSession {
 public:
  explicit TextSession(LanguageModel& model);  // which outlives it
  ~TextSession();

  // As generate, with `text` as the whole prompt, all earlier turns included. As far as it begins like
  // the text so far (the last prompt and its completion), it is not read again. Turns go on with one
  // random stream.
  Completion go_on(std::span<const TokenId> text, const std::vector<TokenId>& eos,
                   const SampleOptions& options, const std::function<bool(TokenId)>& on_token = {});
  // How many tokens of the last turn's prompt were read for it.
  std::size_t tokens_read() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace neap
