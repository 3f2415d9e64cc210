// Which token comes next, given its logits.
#pragma once

#include <cstdint>
#include <span>

#include "neap/model.h"

namespace neap {

// Throws Error(argument) naming the option: temperature finite and >= 0, top_k >= 0, top_p in (0,
// 1], max_tokens >= 0.
void check_options(const SampleOptions& options);

// Uniform in [0, 1): what sequence `sequence` draws at step `step`, a pure function of all three.
double sample_uniform(std::uint64_t seed, std::uint64_t sequence, std::uint64_t step);

// The largest logit (the first of equals) at temperature 0. Else a draw from softmax(logits /
// temperature), of which only the top_k likeliest are left (equals by lower id first), and of those
// only the likeliest that make up top_p: the id at which the running sum of probabilities passes
// `uniform`. Runs on the calling thread. Throws Error(data) if a logit is NaN or infinite.
TokenId pick_token(std::span<const float> logits, const SampleOptions& options, double uniform);

}  // namespace neap
