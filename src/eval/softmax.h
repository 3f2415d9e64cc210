// Softmax statistics of rows of logits, at about the speed of reading them from cache: exponentials
// and short sums in fp32, long sums in fp64.
#pragma once

#include <cstddef>

namespace neap {

struct SoftmaxRow {
  float peak = 0;       // the largest logit
  std::size_t top = 0;  // where it stands first
  double sum = 0;       // of exp(logit - peak); NaN if a logit is NaN or +infinity
  double log_sum = 0;   // peak + log(sum)

  // Log-probability of a column that holds `logit`.
  double log_probability(float logit) const { return static_cast<double>(logit) - log_sum; }
};

// logits: `count` of them, at least one.
SoftmaxRow softmax_row(const float* logits, std::size_t count);

// KL(p || q) in nats, where p and q are what softmax_row gave for the two rows. Its relative precision
// holds for rows that hardly differ; equal rows give exactly zero.
double kl_divergence(const float* p_logits, const SoftmaxRow& p, const float* q_logits,
                     const SoftmaxRow& q, std::size_t count);

}  // namespace neap
