// Perplexity, and divergence from a reference. Formulas: neap/eval.h; the set of figures is the one
// that llama.cpp's users know (tools/perplexity/README.md there).
#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "base/parallel.h"
#include "eval/logit_file.h"
#include "eval/logit_stream.h"
#include "eval/softmax.h"
#include "eval/statistics.h"
#include "neap/error.h"
#include "neap/eval.h"

namespace neap {
namespace {

constexpr std::size_t kRowsPerTask = 4;

// What one predicted token contributes.
struct TokenScore {
  double nll = 0, reference_nll = 0;
  double kl = 0;
  bool same_top = false;
};

TokenScore score(const Prediction& prediction, std::size_t row,
                 std::span<const MatrixView<const float>> logits) {
  const auto token = static_cast<std::size_t>(prediction.token);
  const std::size_t vocabulary = logits[0].cols;
  const float* ours = logits[0].row(row);
  const SoftmaxRow q = softmax_row(ours, vocabulary);
  TokenScore result;
  result.nll = -q.log_probability(ours[token]);
  if (logits.size() > 1) {
    const float* theirs = logits[1].row(row);
    const SoftmaxRow p = softmax_row(theirs, vocabulary);
    result.reference_nll = -p.log_probability(theirs[token]);
    result.kl = kl_divergence(theirs, p, ours, q, vocabulary);
    result.same_top = p.top == q.top;
  }
  return result;
}

Perplexity perplexity_of(const Accumulator& nll) {
  Perplexity result;
  result.tokens = nll.count();
  result.nll = nll.estimate();
  result.value = std::exp(result.nll.mean);
  result.error = result.value * result.nll.error;
  return result;
}

class Scores {
 public:
  explicit Scores(bool with_reference) : with_reference_(with_reference) {}

  void add(const Prediction& prediction, const TokenScore& s) {
    if (!std::isfinite(s.nll) || !std::isfinite(s.reference_nll) || !std::isfinite(s.kl)) {
      throw Error(ErrorCode::data,
                  std::string("the ") + (std::isfinite(s.nll) ? "reference" : "model") +
                      " gives a logit that is NaN or infinite in window " +
                      std::to_string(prediction.window) + " at position " +
                      std::to_string(prediction.position - 1));
    }
    nll_.add(s.nll);
    if (!with_reference_) return;
    const double probability_change = std::exp(-s.nll) - std::exp(-s.reference_nll);
    reference_nll_.add(s.reference_nll);
    log_ratio_.add(s.nll - s.reference_nll);
    same_top_.add(s.same_top ? 1 : 0);
    squared_change_.add(probability_change * probability_change);
    kl_.add(s.kl);
    kl_values_.push_back(static_cast<float>(s.kl));
  }

  EvalResult result() {
    EvalResult result;
    result.perplexity = perplexity_of(nll_);
    if (with_reference_) result.divergence = divergence();
    return result;
  }

 private:
  Divergence divergence() {
    std::sort(kl_values_.begin(), kl_values_.end());
    Divergence d;
    d.kl = kl_.estimate();
    d.kl_median = percentile(kl_values_, 0.5);
    d.kl_p90 = percentile(kl_values_, 0.9);
    d.kl_p95 = percentile(kl_values_, 0.95);
    d.kl_p99 = percentile(kl_values_, 0.99);
    d.kl_p999 = percentile(kl_values_, 0.999);
    d.kl_max = kl_values_.back();
    d.same_top = same_top_.estimate();
    d.rms_probability = std::sqrt(squared_change_.mean());
    d.reference = perplexity_of(reference_nll_);
    d.log_ratio = log_ratio_.estimate();
    return d;
  }

  bool with_reference_;
  Accumulator nll_, reference_nll_, log_ratio_, same_top_, squared_change_, kl_;
  std::vector<float> kl_values_;  // one per token: exact percentiles need them all
};

void check_pair(const LanguageModel& model, const LanguageModel& reference) {
  if (model.config().vocabulary != reference.config().vocabulary) {
    throw Error(ErrorCode::argument, "model and reference differ in the size of their vocabularies",
                {.expected = std::to_string(reference.config().vocabulary),
                 .found = std::to_string(model.config().vocabulary)});
  }
}

}  // namespace

EvalResult evaluate(LanguageModel& model, LanguageModel* reference,
                    const std::vector<EvalWindow>& windows, const EvalOptions& options) {
  if (windows.empty()) throw Error(ErrorCode::data, "no window to evaluate on");
  const ThreadScope threads(options.threads);
  std::vector<LanguageModel*> models = {&model};
  if (reference) {
    check_pair(model, *reference);
    models.push_back(reference);
  }
  Scores scores(reference != nullptr);
  std::optional<LogitFile> file;
  if (!options.logit_file.empty()) {
    file.emplace(options.logit_file, windows, static_cast<std::size_t>(model.config().vocabulary));
  }
  std::vector<TokenScore> tile;
  stream_logits(models, windows, options, [&](auto predictions, auto logits) {
    tile.assign(predictions.size(), {});
    parallel_for((tile.size() + kRowsPerTask - 1) / kRowsPerTask, [&](std::size_t task) {
      const std::size_t end = std::min(tile.size(), (task + 1) * kRowsPerTask);
      for (std::size_t i = task * kRowsPerTask; i < end; ++i) {
        tile[i] = score(predictions[i], i, logits);
      }
    });
    for (std::size_t i = 0; i < tile.size(); ++i) scores.add(predictions[i], tile[i]);
    if (file) file->add(logits[0]);
  });
  if (file) file->finish();
  return scores.result();
}

}  // namespace neap
