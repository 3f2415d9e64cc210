// A block with random weights, and what it computes, written as plainly as the formulas in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "base/random.h"
#include "model/block.h"
#include "neap/model.h"

namespace neap {

inline std::vector<float> random_values(std::size_t count, float scale, float offset,
                                        std::string_view name) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto bits = philox({static_cast<std::uint32_t>(i), 0, 0, 0}, stream_key(1, name));
    values[i] = offset + scale * (uniform_float(bits[0]) + uniform_float(bits[1]) - 1.f);
  }
  return values;
}

inline Matrix<float> random_matrix(std::size_t rows, std::size_t cols, float scale,
                                   std::string_view name) {
  Matrix<float> m(rows, cols);
  const std::vector<float> values = random_values(rows * cols, scale, 0, name);
  std::copy(values.begin(), values.end(), m.data());
  return m;
}

// What a test varies.
struct SmallBlock {
  std::size_t heads = 4, kv_heads = 2, head_dim = 16, hidden = 48, intermediate = 80;
  std::int64_t window = 0;
  bool rope = true, bias = false, qk_norm = false;

  ModelConfig config() const {
    ModelConfig c;
    c.family = "llama";
    c.layers = 1;
    c.hidden = static_cast<std::int64_t>(hidden);
    c.intermediate = static_cast<std::int64_t>(intermediate);
    c.vocabulary = 32;
    c.heads = static_cast<std::int64_t>(heads);
    c.kv_heads = static_cast<std::int64_t>(kv_heads);
    c.head_dim = static_cast<std::int64_t>(head_dim);
    c.max_positions = 4096;
    c.switches = {{rope, window}};
    return c;
  }
  std::size_t out(std::size_t role) const {
    const std::size_t q = heads * head_dim, kv = kv_heads * head_dim;
    return std::array{q, kv, kv, hidden, intermediate, intermediate, hidden}[role];
  }
  std::size_t in(std::size_t role) const {
    return std::array{hidden, hidden, hidden, heads * head_dim, hidden, hidden, intermediate}[role];
  }
  // Scores of a few units, so that the softmax is neither flat nor one-hot.
  Matrix<float> weight(std::size_t role) const {
    const float scale = (role < 2 ? 4.f : 2.f) / std::sqrt(static_cast<float>(in(role)));
    return random_matrix(out(role), in(role), scale, "weight" + std::to_string(role));
  }
  std::vector<float> bias_of(std::size_t role) const {
    return bias ? random_values(out(role), 1.f, 0, "bias" + std::to_string(role))
                : std::vector<float>{};
  }
  Block block(Precision precision) const {
    Block b;
    b.switches = {rope, window};
    b.input_norm = random_values(hidden, 0.5f, 1.f, "input_norm");
    b.mlp_norm = random_values(hidden, 0.5f, 1.f, "mlp_norm");
    if (qk_norm) {
      b.q_norm = random_values(head_dim, 1.f, 2.f, "q_norm");
      b.k_norm = random_values(head_dim, 1.f, 2.f, "k_norm");
    }
    for (std::size_t r = 0; r < kRoles; ++r) {
      b.linears[r] = make_dense_linear(weight(r), bias_of(r), precision);
    }
    return b;
  }
};

using DoubleMatrix = std::vector<std::vector<double>>;

inline DoubleMatrix to_double(MatrixView<const float> x) {
  DoubleMatrix m(x.rows);
  for (std::size_t r = 0; r < x.rows; ++r) m[r].assign(x.row(r), x.row(r) + x.cols);
  return m;
}

inline DoubleMatrix reference_linear(const SmallBlock& shape, Role role, const DoubleMatrix& x) {
  const auto index = static_cast<std::size_t>(role);
  const Matrix<float> w = shape.weight(index);
  const std::vector<float> bias = shape.bias_of(index);
  DoubleMatrix y(x.size(), std::vector<double>(w.rows()));
  for (std::size_t r = 0; r < x.size(); ++r) {
    for (std::size_t o = 0; o < w.rows(); ++o) {
      y[r][o] = bias.empty() ? 0 : static_cast<double>(bias[o]);
      for (std::size_t i = 0; i < w.cols(); ++i) y[r][o] += x[r][i] * static_cast<double>(w(o, i));
    }
  }
  return y;
}

inline void reference_norm(double* x, const std::vector<float>& weight) {
  double squares = 0;
  for (std::size_t i = 0; i < weight.size(); ++i) squares += x[i] * x[i];
  const double factor = 1 / std::sqrt(squares / static_cast<double>(weight.size()) + 1e-5);
  for (std::size_t i = 0; i < weight.size(); ++i) x[i] *= factor * static_cast<double>(weight[i]);
}

// Norm and rope of every head of q or k.
inline void reference_heads(const SmallBlock& shape, const std::vector<float>& norm,
                            std::size_t position, std::vector<double>& row) {
  const std::size_t half = shape.head_dim / 2;
  for (double* x = row.data(); x < row.data() + row.size(); x += shape.head_dim) {
    if (!norm.empty()) reference_norm(x, norm);
    for (std::size_t i = 0; i < half && shape.rope; ++i) {
      const double angle =
          static_cast<double>(position) *
          std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(shape.head_dim));
      const double a = x[i], b = x[i + half];
      x[i] = a * std::cos(angle) - b * std::sin(angle);
      x[i + half] = b * std::cos(angle) + a * std::sin(angle);
    }
  }
}

// One window: what the o projection reads, from h.
inline DoubleMatrix reference_attention(const SmallBlock& shape, const Block& block,
                                        const DoubleMatrix& h) {
  DoubleMatrix q = reference_linear(shape, Role::q, h), k = reference_linear(shape, Role::k, h);
  const DoubleMatrix v = reference_linear(shape, Role::v, h);
  const std::size_t length = h.size(), dim = shape.head_dim, group = shape.heads / shape.kv_heads;
  for (std::size_t t = 0; t < length; ++t) {
    reference_heads(shape, block.q_norm, t, q[t]);
    reference_heads(shape, block.k_norm, t, k[t]);
  }
  DoubleMatrix a(length, std::vector<double>(shape.heads * dim));
  for (std::size_t head = 0; head < shape.heads; ++head) {
    const std::size_t from = head * dim, kv = head / group * dim;
    for (std::size_t i = 0; i < length; ++i) {
      std::vector<double> weight(i + 1);
      double total = 0;
      for (std::size_t j = 0; j <= i; ++j) {
        if (shape.window > 0 && i - j >= static_cast<std::size_t>(shape.window)) continue;
        double score = 0;
        for (std::size_t d = 0; d < dim; ++d) score += q[i][from + d] * k[j][kv + d];
        total += weight[j] = std::exp(score / std::sqrt(static_cast<double>(dim)));
      }
      for (std::size_t j = 0; j <= i; ++j) {
        for (std::size_t d = 0; d < dim; ++d) a[i][from + d] += weight[j] / total * v[j][kv + d];
      }
    }
  }
  return a;
}

inline void reference_add(const DoubleMatrix& y, DoubleMatrix& x) {
  for (std::size_t r = 0; r < x.size(); ++r) {
    for (std::size_t c = 0; c < x[r].size(); ++c) x[r][c] += y[r][c];
  }
}

inline DoubleMatrix reference_normed(const DoubleMatrix& x, const std::vector<float>& weight) {
  DoubleMatrix h = x;
  for (auto& row : h) reference_norm(row.data(), weight);
  return h;
}

// One window through the block.
inline DoubleMatrix reference_block(const SmallBlock& shape, const Block& block, DoubleMatrix x) {
  const DoubleMatrix h = reference_normed(x, block.input_norm);
  reference_add(reference_linear(shape, Role::o, reference_attention(shape, block, h)), x);
  const DoubleMatrix m = reference_normed(x, block.mlp_norm);
  DoubleMatrix gate = reference_linear(shape, Role::gate, m);
  const DoubleMatrix up = reference_linear(shape, Role::up, m);
  for (std::size_t r = 0; r < gate.size(); ++r) {
    for (std::size_t c = 0; c < gate[r].size(); ++c) {
      gate[r][c] *= up[r][c] / (1 + std::exp(-gate[r][c]));
    }
  }
  reference_add(reference_linear(shape, Role::down, gate), x);
  return x;
}

// Root mean square of the difference, relative to that of the reference.
inline double relative_error(MatrixView<const float> y, const DoubleMatrix& reference,
                             std::size_t first_row = 0) {
  double difference = 0, size = 0;
  for (std::size_t r = 0; r < y.rows; ++r) {
    for (std::size_t c = 0; c < y.cols; ++c) {
      const double expected = reference[first_row + r][c];
      difference +=
          (static_cast<double>(y(r, c)) - expected) * (static_cast<double>(y(r, c)) - expected);
      size += expected * expected;
    }
  }
  return std::sqrt(difference / size);
}

}  // namespace neap
