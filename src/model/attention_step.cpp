#include "model/attention_step.h"

#include <algorithm>

#include "base/half.h"
#include "base/multiversion.h"
#include "linalg/buffer.h"
#include "model/elementwise.h"
#include "model/vector16.h"

namespace neap {
namespace {

NEAP_INLINE float widen(float value) { return value; }
NEAP_INLINE float widen(Bf16 value) { return bf16_to_float(value); }

// scores(g, p) = queries(g) . keys(p). scores has rows of `stride`.
template <class T>
NEAP_INLINE void score(const T* keys, std::size_t positions, MatrixView<const float> queries,
                       std::size_t stride, float* scores) {
  const std::size_t size = queries.cols, whole = size / kLanes * kLanes;
  for (std::size_t p = 0; p < positions; ++p, keys += size) {
    for (std::size_t g = 0; g < queries.rows; ++g) {
      const float* query = queries.data + g * queries.stride;
      Vec total{};
      for (std::size_t i = 0; i < whole; i += kLanes) total += load(keys + i) * load(query + i);
      float rest = 0;
      for (std::size_t i = whole; i < size; ++i) rest += widen(keys[i]) * query[i];
      scores[g * stride + p] = sum(total) + rest;
    }
  }
}

// out(g) = sum over p of weights(g, p) values(p).
template <class T>
NEAP_INLINE void mix(const T* values, std::size_t positions, std::size_t group, std::size_t size,
                     std::size_t stride, const float* weights, float* out) {
  const std::size_t whole = size / kLanes * kLanes;
  std::fill(out, out + group * size, 0.f);
  for (std::size_t p = 0; p < positions; ++p, values += size) {
    for (std::size_t g = 0; g < group; ++g) {
      const float weight = weights[g * stride + p];
      float* to = out + g * size;
      for (std::size_t i = 0; i < whole; i += kLanes) {
        store(load(to + i) + weight * load(values + i), to + i);
      }
      for (std::size_t i = whole; i < size; ++i) to[i] += weight * widen(values[i]);
    }
  }
}

NEAP_MULTIVERSION
void score_bf16(const Bf16* keys, std::size_t positions, MatrixView<const float> queries,
                std::size_t stride, float* scores) {
  score(keys, positions, queries, stride, scores);
}
NEAP_MULTIVERSION
void score_f32(const float* keys, std::size_t positions, MatrixView<const float> queries,
               std::size_t stride, float* scores) {
  score(keys, positions, queries, stride, scores);
}
NEAP_MULTIVERSION
void mix_bf16(const Bf16* values, std::size_t positions, std::size_t group, std::size_t size,
              std::size_t stride, const float* weights, float* out) {
  mix(values, positions, group, size, stride, weights, out);
}
NEAP_MULTIVERSION
void mix_f32(const float* values, std::size_t positions, std::size_t group, std::size_t size,
             std::size_t stride, const float* weights, float* out) {
  mix(values, positions, group, size, stride, weights, out);
}

}  // namespace

void attend_step(const KeyValues& cache, std::size_t offset, std::size_t positions,
                 MatrixView<const float> queries, float* out) {
  const std::size_t group = queries.rows, size = queries.cols;
  const std::size_t stride = (positions + kLanes - 1) / kLanes * kLanes;
  thread_local Buffer buffer;
  float* scores = buffer.floats(group * stride);
  const std::byte *keys = cache.keys + offset, *values = cache.values + offset;
  const bool narrow = cache.type == Operand::bf16;
  if (narrow) {
    score_bf16(reinterpret_cast<const Bf16*>(keys), positions, queries, stride, scores);
  } else {
    score_f32(reinterpret_cast<const float*>(keys), positions, queries, stride, scores);
  }
  float sums[256];
  NEAP_CHECK(group <= std::size(sums));
  for (std::size_t g = 0; g < group; ++g) {
    SoftmaxState state;
    float* row = scores + g * stride;
    softmax_step(state, row, 0, positions, stride, Operand::f32, reinterpret_cast<std::byte*>(row));
    sums[g] = state.sum;
  }
  if (narrow) {
    mix_bf16(reinterpret_cast<const Bf16*>(values), positions, group, size, stride, scores, out);
  } else {
    mix_f32(reinterpret_cast<const float*>(values), positions, group, size, stride, scores, out);
  }
  for (std::size_t g = 0; g < group; ++g)
    scale(out + g * size, 1.f / sums[g], size, out + g * size);
}

}  // namespace neap
