// One decoder block and the forward pass through it, cut at its four kinds of linear inputs, so
// that whoever quantizes can look at what enters each layer before deciding it. forward_block is
// these steps in a row, and the only forward pass there is.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "model/linear.h"
#include "neap/matrix.h"
#include "neap/model.h"

namespace neap {

class KvCache;

enum class Role { q, k, v, o, gate, up, down };
inline constexpr std::size_t kRoles = 7;

struct Block {
  std::int64_t index = 0;
  LayerSwitches switches;
  std::vector<float> input_norm, mlp_norm;  // hidden values each
  std::vector<float> q_norm, k_norm;        // head_dim values each, or empty
  std::array<std::shared_ptr<const Linear>, kRoles> linears;

  const Linear& linear(Role role) const { return *linears[static_cast<std::size_t>(role)]; }
};

// Cosines and sines of every position up to `positions`, rope scaling applied.
struct RopeTable {
  Matrix<float> cosine, sine;  // (positions, head_dim / 2)
};
RopeTable make_rope_table(const ModelConfig& config, std::size_t positions);

// x: residual stream; h: what q, k, v read; a: what o reads; f: what down reads. All fp32, one row
// per token; windows of `length` tokens stand one after another, each from position 0. h = norm(x).
// (tokens, hidden) -> (tokens, hidden)
void attention_input(const ModelConfig& config, const Block& block, MatrixView<const float> x,
                     MatrixView<float> h);
// q, k, v from h, rope, causal softmax.              (tokens, hidden) -> (tokens, heads * head_dim)
void attention(const ModelConfig& config, const Block& block, const RopeTable& rope,
               Precision precision, std::size_t length, MatrixView<const float> h,
               MatrixView<float> a);
// x += o(a).
void add_attention(const Block& block, MatrixView<const float> a, MatrixView<float> x);
// h = norm(x).
void mlp_input(const ModelConfig& config, const Block& block, MatrixView<const float> x,
               MatrixView<float> h);
// f = silu(gate(h)) * up(h).                         (tokens, hidden) -> (tokens, intermediate)
void mlp_hidden(const Block& block, MatrixView<const float> h, MatrixView<float> f);
// x += down(f).
void add_mlp(const Block& block, MatrixView<const float> f, MatrixView<float> x);

void forward_block(const ModelConfig& config, const Block& block, const RopeTable& rope,
                   Precision precision, std::size_t length, MatrixView<float> x);

// The same for tokens that come after those in the cache: new_tokens for each of its sequences (one
// when generating, a whole prompt at first). x: (sequences * new_tokens, hidden), one sequence
// after another. Their keys and values go into layer block.index of the cache, which grows if it
// must; when every block has run, the caller calls cache.advance(new_tokens). The cache's precision
// counts.
void forward_block_cached(const ModelConfig& config, const Block& block, const RopeTable& rope,
                          KvCache& cache, std::size_t new_tokens, MatrixView<float> x);

}  // namespace neap
