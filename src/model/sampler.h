// Which token comes next, given its logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "neap/generate.h"

namespace neap {

// Throws Error(argument) naming the option: temperature finite and >= 0, top_k >= 0, top_p in (0, 1],
// min_p in [0, 1], repetition_penalty finite and > 0, max_tokens >= 0.
void check_options(const SampleOptions& options);

// Uniform in [0, 1): what sequence `sequence` draws at step `step`, a pure function of all three.
double sample_uniform(std::uint64_t seed, std::uint64_t sequence, std::uint64_t step);

// Tokens that have been seen, and how little they are wanted again. Keskar et al., arXiv 1909.05858.
class RepetitionPenalty {
 public:
  RepetitionPenalty(double penalty, std::size_t vocabulary);

  void see(std::span<const TokenId> tokens);
  void forget();
  // Divides logits above 0 of tokens that were seen by the penalty, multiplies others.
  void apply(std::span<float> logits) const;

 private:
  float penalty_;  // 1: nothing is kept
  std::vector<bool> seen_;
  std::vector<TokenId> tokens_;  // each once
};

// What is left to choose from, likeliest first (of equals the lower id), and weights that are
// proportional to probabilities.
struct Candidates {
  std::vector<TokenId> ids;
  std::vector<double> weights;
};

// softmax(logits / temperature), cut to the top_k likeliest, of those to the fewest that make up
// top_p, of those to the ones that have min_p times the likeliest's probability. temperature > 0.
// Throws Error(data) if a logit is NaN or infinite.
Candidates candidates_of(std::span<const float> logits, const SampleOptions& options);

// The largest logit (the first of equals) at temperature 0. Else a draw from the candidates: the one at
// which the running sum of probabilities passes `uniform`; where all tokens are candidates, in the order
// of their ids. Runs on the calling thread. Throws as candidates_of.
TokenId pick_token(std::span<const float> logits, const SampleOptions& options, double uniform);

}  // namespace neap
