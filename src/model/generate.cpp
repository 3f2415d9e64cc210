#include "neap/generate.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/parallel.h"
#include "model/loaded_model.h"
#include "model/sampler.h"
#include "neap/error.h"

namespace neap {
namespace {

// Sequences that grow by a token at a time, all that still go on in one pass over the weights.
class Writer {
 public:
  Writer(LoadedModel& model, std::size_t sequences, const SampleOptions& options)
      : model_(model),
        options_(options),
        cache_(model.make_cache(sequences)),
        penalties_(sequences, {options.repetition_penalty, vocabulary()}),
        streams_(sequences) {
    check_options(options);
    for (std::size_t s = 0; s < sequences; ++s) streams_[s].number = s;
  }

  // How the next tokens are drawn; the streams of random numbers go on.
  void set_options(const SampleOptions& options) {
    check_options(options);
    options_ = options;
    for (RepetitionPenalty& penalty : penalties_) {
      penalty = {options.repetition_penalty, vocabulary()};
    }
  }

  // Leaves of a sequence no more than what `text` begins with.
  void keep(std::size_t sequence, std::span<const TokenId> text) {
    cache_.truncate(sequence, text.size());
    penalties_[sequence].forget();
    penalties_[sequence].see(text);
  }
  // Makes a sequence an empty one that draws from a random stream of its own.
  void begin(std::size_t sequence, std::uint64_t stream) {
    keep(sequence, {});
    streams_[sequence] = {stream, 0};
  }

  // Takes in new tokens, counts[s] of sequence s one after another, and draws the one after them for
  // each that has any. The result is by sequence; what it holds for others means nothing.
  const std::vector<TokenId>& next_after(std::span<const TokenId> tokens,
                                         std::span<const std::size_t> counts) {
    model_.run_together([&] { run(tokens, counts); });
    return next_;
  }

 private:
  std::size_t vocabulary() const { return static_cast<std::size_t>(model_.config().vocabulary); }

  void run(std::span<const TokenId> tokens, std::span<const std::size_t> counts) {
    const auto hidden = static_cast<std::size_t>(model_.config().hidden);
    if (states_.rows() < tokens.size()) states_ = Matrix<float>::unset(tokens.size(), hidden);
    model_.forward_cached(tokens, counts, cache_, states_.view().row_range(0, tokens.size()));
    active_.clear();
    std::size_t row = 0;
    for (std::size_t s = 0; s < counts.size(); ++s) {
      if (counts[s] == 0) continue;
      penalties_[s].see(tokens.subspan(row, counts[s]));
      row += counts[s];
      // The head reads the last token's row of each sequence alone.
      std::copy_n(states_.row(row - 1), hidden, states_.row(active_.size()));
      active_.push_back(s);
    }
    draw();
  }

  void draw() {
    const std::size_t rows = active_.size();
    if (logits_.rows() < rows) logits_ = Matrix<float>::unset(rows, vocabulary());
    const MatrixView<float> logits = logits_.view().row_range(0, rows);
    model_.head(states_.view().row_range(0, rows), logits);
    next_.resize(streams_.size());
    parallel_for(rows, [&](std::size_t i) {
      const std::size_t s = active_[i];
      penalties_[s].apply(logits.row_span(i));
      Stream& stream = streams_[s];
      next_[s] = pick_token(logits.row_span(i), options_,
                            sample_uniform(options_.seed, stream.number, stream.drawn++));
    });
  }

  LoadedModel& model_;
  SampleOptions options_;
  KvCache cache_;
  std::vector<RepetitionPenalty> penalties_;
  struct Stream {
    std::uint64_t number = 0, drawn = 0;  // tokens so far
  };
  std::vector<Stream> streams_;
  Matrix<float> states_, logits_;
  std::vector<std::size_t> active_;
  std::vector<TokenId> next_;
};

bool is_end(const std::vector<TokenId>& eos, TokenId token) {
  return std::ranges::find(eos, token) != eos.end();
}

// One sequence from what is not read of its prompt, to its end.
Completion complete(Writer& writer, std::span<const TokenId> unread, const std::vector<TokenId>& eos,
                    const SampleOptions& options, const std::function<bool(TokenId)>& on_token) {
  Completion result;
  while (static_cast<std::int64_t>(result.tokens.size()) < options.max_tokens) {
    const auto tokens = result.tokens.empty() ? unread : std::span(&result.tokens.back(), 1);
    const std::size_t count = tokens.size();
    const TokenId next = writer.next_after(tokens, {&count, 1})[0];
    if (options.stop_at_eos && is_end(eos, next)) {
      result.ending = Ending::end_token;
      break;
    }
    result.tokens.push_back(next);
    if (on_token && !on_token(next)) {
      result.ending = Ending::stopped;
      break;
    }
  }
  return result;
}

void check_prompt(std::span<const TokenId> prompt) {
  if (prompt.empty()) throw Error(ErrorCode::argument, "the prompt has no tokens");
}

}  // namespace

Completion generate(LanguageModel& model, std::span<const TokenId> prompt,
                    const std::vector<TokenId>& eos, const SampleOptions& options,
                    const std::function<bool(TokenId)>& on_token) {
  check_prompt(prompt);
  const ThreadScope threads(options.threads);
  Writer writer(loaded_model(model), 1, options);
  return complete(writer, prompt, eos, options, on_token);
}

namespace {

// Prompts that wait, sequences that go on, and what has come of them.
class Queue {
 public:
  Queue(std::span<const std::vector<TokenId>> prompts, const std::vector<TokenId>& eos,
        const SampleOptions& options, std::size_t at_once)
      : prompts_(prompts), eos_(eos), options_(options), results_(prompts.size()) {
    slots_.resize(std::min(at_once, prompts.size()), kFree);
    counts_.resize(slots_.size());
    if (options.max_tokens == 0) waiting_ = prompts.size();
  }

  std::size_t sequences() const { return slots_.size(); }
  std::span<const TokenId> tokens() const { return tokens_; }
  std::span<const std::size_t> counts() const { return counts_; }
  std::vector<Completion> take_results() { return std::move(results_); }

  // The tokens of the next pass: the last one of each sequence that goes on, and whole prompts in
  // place of those that have ended. False if there are none.
  bool fill(Writer& writer) {
    tokens_.clear();
    for (std::size_t s = 0; s < slots_.size(); ++s) {
      counts_[s] = 0;
      if (slots_[s] != kFree) {
        tokens_.push_back(results_[slots_[s]].tokens.back());
        counts_[s] = 1;
      } else if (waiting_ < prompts_.size()) {
        writer.begin(s, waiting_);
        const std::vector<TokenId>& prompt = prompts_[waiting_];
        tokens_.insert(tokens_.end(), prompt.begin(), prompt.end());
        counts_[s] = prompt.size();
        slots_[s] = waiting_++;
      }
    }
    return !tokens_.empty();
  }

  // What was drawn for each sequence.
  void take(const std::vector<TokenId>& next,
            const std::function<bool(std::size_t sequence, TokenId)>& on_token) {
    for (std::size_t s = 0; s < slots_.size(); ++s) {
      if (slots_[s] == kFree) continue;
      Completion& result = results_[slots_[s]];
      if (options_.stop_at_eos && is_end(eos_, next[s])) {
        end(s, Ending::end_token);
        continue;
      }
      result.tokens.push_back(next[s]);
      if (on_token && !on_token(slots_[s], next[s])) {
        end(s, Ending::stopped);
      } else if (static_cast<std::int64_t>(result.tokens.size()) == options_.max_tokens) {
        end(s, Ending::max_tokens);
      }
    }
  }

 private:
  static constexpr std::size_t kFree = static_cast<std::size_t>(-1);

  void end(std::size_t slot, Ending ending) {
    results_[slots_[slot]].ending = ending;
    slots_[slot] = kFree;
  }

  std::span<const std::vector<TokenId>> prompts_;
  const std::vector<TokenId>& eos_;
  const SampleOptions& options_;
  std::vector<Completion> results_;
  std::size_t waiting_ = 0;         // the first prompt that no sequence has taken
  std::vector<std::size_t> slots_;  // the prompt that a sequence goes on from
  std::vector<TokenId> tokens_;
  std::vector<std::size_t> counts_;
};

}  // namespace

std::vector<Completion> generate_all(
    LanguageModel& model, std::span<const std::vector<TokenId>> prompts,
    const std::vector<TokenId>& eos, const SampleOptions& options, std::size_t at_once,
    const std::function<bool(std::size_t sequence, TokenId)>& on_token) {
  for (const auto& prompt : prompts) check_prompt(prompt);
  if (at_once == 0) throw Error(ErrorCode::argument, "no sequence at once is none at all");
  const ThreadScope threads(options.threads);
  Queue queue(prompts, eos, options, at_once);
  Writer writer(loaded_model(model), queue.sequences(), options);
  while (queue.fill(writer)) {
    queue.take(writer.next_after(queue.tokens(), queue.counts()), on_token);
  }
  return queue.take_results();
}

std::vector<TokenId> generate_batch(LanguageModel& model, std::span<const TokenId> prompts,
                                    std::size_t sequences, const SampleOptions& options,
                                    const std::function<bool(std::int64_t step)>& on_step) {
  if (sequences == 0 || prompts.empty() || prompts.size() % sequences != 0)
    throw Error(ErrorCode::argument, "prompts must be of equal length, at least one token");
  const ThreadScope threads(options.threads);
  Writer writer(loaded_model(model), sequences, options);
  const auto steps = static_cast<std::size_t>(options.max_tokens);
  std::vector<TokenId> tokens(sequences * steps), latest(prompts.begin(), prompts.end());
  std::vector<std::size_t> counts(sequences, prompts.size() / sequences);
  for (std::size_t step = 0; step < steps; ++step) {
    latest = writer.next_after(latest, counts);
    counts.assign(sequences, 1);
    for (std::size_t s = 0; s < sequences; ++s) tokens[s * steps + step] = latest[s];
    if (on_step && !on_step(static_cast<std::int64_t>(step)))
      throw Error(ErrorCode::cancelled, "generation was cancelled");
  }
  return tokens;
}

class TextSession::Impl {
 public:
  explicit Impl(LanguageModel& model) : writer_(loaded_model(model), 1, {}) {}

  Completion go_on(std::span<const TokenId> text, const std::vector<TokenId>& eos,
                   const SampleOptions& options, const std::function<bool(TokenId)>& on_token) {
    check_prompt(text);
    const ThreadScope threads(options.threads);
    writer_.set_options(options);
    const auto [old, given] = std::ranges::mismatch(read_, text);
    // The last token is read in any case: what comes after it is asked for.
    const std::size_t same =
        std::min(static_cast<std::size_t>(given - text.begin()), text.size() - 1);
    writer_.keep(0, text.first(same));
    tokens_read_ = text.size() - same;
    // Whatever happens on the way (an error, a stop), this much is certain to be read.
    read_.assign(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(same));
    Completion result = complete(writer_, text.subspan(same), eos, options, on_token);
    if (options.max_tokens > 0) {
      read_.assign(text.begin(), text.end());
      read_.insert(read_.end(), result.tokens.begin(), result.tokens.end());
      // The last token drawn has not been read, unless an end token was drawn after it.
      if (result.ending != Ending::end_token && !result.tokens.empty()) read_.pop_back();
    }
    return result;
  }
  std::size_t tokens_read() const { return tokens_read_; }

 private:
  Writer writer_;
  std::vector<TokenId> read_;  // what the cache holds
  std::size_t tokens_read_ = 0;
};

TextSession::TextSession(LanguageModel& model) : impl_(std::make_unique<Impl>(model)) {}
TextSession::~TextSession() = default;

Completion TextSession::go_on(std::span<const TokenId> text, const std::vector<TokenId>& eos,
                              const SampleOptions& options,
                              const std::function<bool(TokenId)>& on_token) {
  return impl_->go_on(text, eos, options, on_token);
}

std::size_t TextSession::tokens_read() const { return impl_->tokens_read(); }

}  // namespace neap
