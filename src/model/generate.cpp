#include <algorithm>
#include <vector>

#include "base/parallel.h"
#include "model/loaded_model.h"
#include "model/sampler.h"
#include "neap/error.h"

namespace neap {
namespace {

LoadedModel& runnable(LanguageModel& model) {
  auto* loaded = dynamic_cast<LoadedModel*>(&model);
  if (!loaded) throw Error(ErrorCode::argument, "only a model from load_model can generate text");
  return *loaded;
}

// Sequences of equal length that grow by a token at a time, all of them in one pass over the
// weights.
class Continuation {
 public:
  Continuation(LoadedModel& model, std::size_t sequences, const SampleOptions& options)
      : model_(model),
        options_(options),
        cache_(model.make_cache(sequences)),
        logits_(sequences, static_cast<std::size_t>(model.config().vocabulary)),
        next_(sequences) {}

  // Takes in tokens, (sequences, any number), and draws the one after them for each sequence.
  const std::vector<TokenId>& next_after(std::span<const TokenId> tokens) {
    const auto hidden = static_cast<std::size_t>(model_.config().hidden);
    Matrix<float> states(tokens.size(), hidden);
    model_.forward_cached(tokens, cache_, states);
    const std::size_t sequences = next_.size(), length = tokens.size() / sequences;
    // The last token's row of each sequence, by stride.
    const MatrixView<const float> last(states.row(length - 1), sequences, hidden, length * hidden);
    model_.head(last, logits_);
    parallel_for(sequences, [&](std::size_t s) {
      next_[s] =
          pick_token(logits_.view().row_span(s), options_, sample_uniform(options_.seed, s, step_));
    });
    ++step_;
    return next_;
  }

 private:
  LoadedModel& model_;
  const SampleOptions& options_;
  KvCache cache_;
  Matrix<float> logits_;
  std::vector<TokenId> next_;
  std::uint64_t step_ = 0;
};

}  // namespace

std::vector<TokenId> generate(LanguageModel& model, std::span<const TokenId> prompt,
                              const std::vector<TokenId>& eos, const SampleOptions& options,
                              const std::function<bool(TokenId)>& on_token) {
  check_options(options);
  if (prompt.empty()) throw Error(ErrorCode::argument, "the prompt has no tokens");
  Continuation continuation(runnable(model), 1, options);
  std::vector<TokenId> tokens;
  while (static_cast<std::int64_t>(tokens.size()) < options.max_tokens) {
    const TokenId next =
        continuation.next_after(tokens.empty() ? prompt : std::span(&tokens.back(), 1))[0];
    const bool ends = options.stop_at_eos && std::ranges::find(eos, next) != eos.end();
    if (ends) break;
    tokens.push_back(next);
    if (on_token && !on_token(next)) break;
  }
  return tokens;
}

std::vector<TokenId> generate_batch(LanguageModel& model, std::span<const TokenId> prompts,
                                    std::size_t sequences, const SampleOptions& options,
                                    const std::function<bool(std::int64_t step)>& on_step) {
  check_options(options);
  if (sequences == 0 || prompts.empty() || prompts.size() % sequences != 0)
    throw Error(ErrorCode::argument, "prompts must be of equal length, at least one token");
  Continuation continuation(runnable(model), sequences, options);
  const auto steps = static_cast<std::size_t>(options.max_tokens);
  std::vector<TokenId> tokens(sequences * steps), latest(prompts.begin(), prompts.end());
  for (std::size_t step = 0; step < steps; ++step) {
    latest = continuation.next_after(latest);
    for (std::size_t s = 0; s < sequences; ++s) tokens[s * steps + step] = latest[s];
    if (on_step && !on_step(static_cast<std::int64_t>(step)))
      throw Error(ErrorCode::cancelled, "generation was cancelled");
  }
  return tokens;
}

}  // namespace neap
