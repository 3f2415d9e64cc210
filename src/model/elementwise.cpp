#include "model/elementwise.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <vector>

#include "base/multiversion.h"
#include "base/parallel.h"
#include "model/attention_bf16.h"
#include "model/vector16.h"

namespace neap {
namespace {

constexpr float kLog2E = 1.44269504f;
constexpr float kHidden = -1e30f;  // a score that no visible one is below; its weight is exactly 0

NEAP_MULTIVERSION
float sum_of_squares(const float* x, std::size_t count) {
  Vec total{};
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) total += load(x + i) * load(x + i);
  if (i < count) {
    const Vec rest = load_part(x + i, count - i);
    total += rest * rest;
  }
  return sum(total);
}

NEAP_MULTIVERSION
void multiply(const float* x, const float* weight, float factor, std::size_t count, float* y) {
  for (std::size_t i = 0; i < count; ++i) y[i] = x[i] * factor * weight[i];
}

NEAP_INLINE Vec silu(Vec g) { return g / (exp2(min(splat(127.f), g * -kLog2E)) + 1.f); }

// Largest of scores[begin, end), and the tile's edges overwritten with kHidden up to whole vectors.
NEAP_INLINE Vec visible_max(float* scores, std::size_t begin, std::size_t end, std::size_t first,
                            std::size_t last) {
  std::fill(scores + first, scores + begin, kHidden);
  std::fill(scores + end, scores + last, kHidden);
  Vec found = splat(kHidden);
  for (std::size_t i = first; i < last; i += kLanes) found = max(found, load(scores + i));
  return found;
}

NEAP_MULTIVERSION
float softmax_step_f32(SoftmaxState& state, float* scores, std::size_t begin, std::size_t end,
                       std::size_t count, float* weights) {
  if (begin == end) {
    std::fill(weights, weights + count, 0.f);
    return 1.f;
  }
  const std::size_t first = begin / kLanes * kLanes, last = (end + kLanes - 1) / kLanes * kLanes;
  const float tile_max = largest(visible_max(scores, begin, end, first, last));
  const float new_max = tile_max > state.max ? tile_max : state.max;
  const float factor = state.sum == 0 ? 1.f : std::exp2(state.max - new_max);
  std::fill(weights, weights + first, 0.f);
  Vec total{};
  for (std::size_t i = first; i < last; i += kLanes) {
    const Vec weight = exp2(load(scores + i) - new_max);
    total += weight;
    store(weight, weights + i);
  }
  std::fill(weights + last, weights + count, 0.f);
  state.max = new_max;
  state.sum = state.sum * factor + sum(total);
  return factor;
}

// Whether every exponent is below the one of infinity and NaN.
NEAP_MULTIVERSION
bool all_finite(const float* x, std::size_t count) {
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu;
    largest = largest > magnitude ? largest : magnitude;
  }
  return largest < 0x7f800000u;
}

}  // namespace

void rms_norm(const float* x, const float* weight, float epsilon, std::size_t count, float* y) {
  const float mean = sum_of_squares(x, count) / static_cast<float>(count);
  multiply(x, weight, 1.f / std::sqrt(mean + epsilon), count, y);
}

NEAP_MULTIVERSION
void silu_multiply(const float* gate, const float* up, std::size_t count, float* y) {
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(silu(load(gate + i)) * load(up + i), y + i);
  if (i < count) {
    const std::size_t rest = count - i;
    store_part(silu(load_part(gate + i, rest)) * load_part(up + i, rest), y + i, rest);
  }
}

NEAP_MULTIVERSION
void add(const float* x, std::size_t count, float* y) {
  for (std::size_t i = 0; i < count; ++i) y[i] += x[i];
}

NEAP_MULTIVERSION
void add_scaled(const float* x, float factor, std::size_t count, float* y) {
  for (std::size_t i = 0; i < count; ++i) y[i] += x[i] * factor;
}

NEAP_MULTIVERSION
void rotate(const float* cosine, const float* sine, std::size_t half, float* x) {
  for (std::size_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * cosine[i] - b * sine[i];
    x[i + half] = b * cosine[i] + a * sine[i];
  }
}

NEAP_MULTIVERSION
void scale(const float* x, float factor, std::size_t count, float* y) {
  for (std::size_t i = 0; i < count; ++i) y[i] = x[i] * factor;
}

float softmax_step(SoftmaxState& state, float* scores, std::size_t begin, std::size_t end,
                   std::size_t count, Operand type, std::byte* weights) {
  if (type == Operand::bf16) {
    return softmax_step_bf16(state, scores, begin, end, count, reinterpret_cast<Bf16*>(weights));
  }
  auto* values = reinterpret_cast<float*>(weights);
  const float factor = softmax_step_f32(state, scores, begin, end, count, values);
  if (type == Operand::bf16_in_f32) to_operand(type, values, weights, count);
  return factor;
}

NEAP_MULTIVERSION
void rescale_add(float factor, const float* part, std::size_t count, float* total) {
  for (std::size_t i = 0; i < count; ++i) total[i] = total[i] * factor + part[i];
}

std::size_t first_non_finite_row(MatrixView<const float> x) {
  constexpr std::size_t kTile = 64;
  std::atomic<std::size_t> first{x.rows};
  parallel_for((x.rows + kTile - 1) / kTile, [&](std::size_t tile) {
    const std::size_t end = std::min(x.rows, (tile + 1) * kTile);
    for (std::size_t r = tile * kTile; r < end; ++r) {
      if (all_finite(x.row(r), x.cols)) continue;
      std::size_t before = first.load();
      while (r < before && !first.compare_exchange_weak(before, r)) {
      }
      return;
    }
  });
  return first.load();
}

}  // namespace neap
