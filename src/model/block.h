// One decoder block and the forward pass through it, cut at its four kinds of linear inputs, so
// that whoever quantizes can look at what enters each layer before deciding it. forward_block is
// these steps in a row, and the only forward pass there is.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "linalg/matmul.h"
#include "model/linear.h"
#include "neap/matrix.h"
#include "neap/model.h"

namespace neap {

class KvCache;
struct Segment;

// What attention multiplies, and what it keeps keys and values in.
struct AttentionTypes {
  AttentionTypes(Precision precision, std::optional<KvType> kept_in = {});  // NOLINT: implicit

  Operand operand;
  KvType kept;
};

enum class Role { q, k, v, o, gate, up, down };
inline constexpr std::array kAllRoles = {Role::q, Role::k, Role::v, Role::o, Role::gate, Role::up, Role::down};
inline constexpr std::size_t kRoles = kAllRoles.size();

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
               AttentionTypes types, std::size_t length, MatrixView<const float> h,
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
                   AttentionTypes types, std::size_t length, MatrixView<float> x);

// The same for tokens that come after those in the cache, as the segments say (one token each when
// generating, whole prompts at first). x: (rows, hidden), covered by the segments in order. Their keys
// and values go into layer block.index of the cache, which has room for them; when every block has
// run, the caller moves the cache on. A segment's bits do not depend on the others.
void forward_block_cached(const ModelConfig& config, const Block& block, const RopeTable& rope,
                          Operand operand, KvCache& cache, std::span<const Segment> segments,
                          MatrixView<float> x);

}  // namespace neap
