// The loops between the matrix products, in fp32 whatever the precision of those. Each works on a
// few rows on the calling thread; who calls cuts the work into tiles.
#pragma once

#include <cstddef>
#include <span>

#include "linalg/matmul.h"
#include "neap/matrix.h"

namespace neap {

// y = x / sqrt(mean(x^2) + epsilon) * weight, for one row. y may be x.
void rms_norm(const float* x, const float* weight, float epsilon, std::size_t count, float* y);
// gate = silu(gate) * up, where silu(g) = g / (1 + e^-g).
void silu_multiply(const float* gate, const float* up, std::size_t count, float* y);
// y += x.
void add(const float* x, std::size_t count, float* y);
// (x_i, x_{i + half}) turned by angle i: the halves of a head, as Hugging Face pairs them. In
// place.
void rotate(const float* cosine, const float* sine, std::size_t half, float* x);
// y += x factor.
void add_scaled(const float* x, float factor, std::size_t count, float* y);
// y = x scale.
void scale(const float* x, float factor, std::size_t count, float* y);

// One row of the running softmax (Milakov, Gimelshein, arXiv 1805.02867): base-2 exponents, so the
// scores come multiplied by log2(e).
struct SoftmaxState {
  float max = -1e30f;  // of the scores so far
  float sum = 0;       // of 2^(score - max) so far
};
// Takes in one more tile of scores, of which those in [begin, end) are visible, and writes the
// tile's weights 2^(score - max), 0 for the invisible. `scores` is overwritten. Returns what all
// earlier weights are to be multiplied by. count: a multiple of 16.
float softmax_step(SoftmaxState& state, float* scores, std::size_t begin, std::size_t end,
                   std::size_t count, Operand type, std::byte* weights);
// total = total * factor + part.
void rescale_add(float factor, const float* part, std::size_t count, float* total);

// Index of the first row with a NaN or an infinity, x.rows if there is none. Parallel.
std::size_t first_non_finite_row(MatrixView<const float> x);

}  // namespace neap
