#include "model/attention_step.h"

#include <algorithm>
#include <cstring>

#include "base/half.h"
#include "base/multiversion.h"
#include "base/buffer.h"
#include "model/attention_bf16.h"
#include "model/attention_int8.h"
#include "model/elementwise.h"
#include "model/vector16.h"

namespace neap {
namespace {

// Positions that are worked on together: what is loaded for one query head serves the next.
constexpr std::size_t kBlock = 4;
using Quad = float __attribute__((vector_size(16)));
static_assert(sizeof(Quad) == kBlock * sizeof(float));

NEAP_INLINE Quad fold(Vec v) {
  Quad parts[4];
  std::memcpy(parts, &v, sizeof v);
  return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

// The sums of four vectors.
NEAP_INLINE Quad sums(const Vec (&v)[kBlock]) {
  const Quad a = fold(v[0]), b = fold(v[1]), c = fold(v[2]), d = fold(v[3]);
  const Quad ab =
      __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Quad cd =
      __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

// query . rows(p) for kBlock rows of `size` values.
NEAP_INLINE Quad dots(const float* query, const float* rows, std::size_t size) {
  Vec total[kBlock] = {};
  std::size_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    const Vec q = load(query + i);
    for (std::size_t p = 0; p < kBlock; ++p) total[p] += q * load(rows + p * size + i);
  }
  Quad result = sums(total);
  for (; i < size; ++i) {
    for (std::size_t p = 0; p < kBlock; ++p) result[p] += query[i] * rows[p * size + i];
  }
  return result;
}

// total += sum over p of weights(p) rows(p), for kBlock rows of `size` values.
NEAP_INLINE void add_rows(const float* weights, const float* rows, std::size_t size, float* total) {
  std::size_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    Vec sum = load(total + i);
    for (std::size_t p = 0; p < kBlock; ++p) sum += weights[p] * load(rows + p * size + i);
    store(sum, total + i);
  }
  for (; i < size; ++i) {
    for (std::size_t p = 0; p < kBlock; ++p) total[i] += weights[p] * rows[p * size + i];
  }
}

// work(first position, rows) for each kBlock rows; the last ones are copied to
// `spare`, filled up with zeros.
template <class Work>
NEAP_INLINE void for_blocks(const float* from, std::size_t positions, std::size_t size,
                            float* spare, const Work& work) {
  std::size_t p = 0;
  for (; p + kBlock <= positions; p += kBlock) work(p, from + p * size);
  if (p == positions) return;
  const std::size_t count = (positions - p) * size;
  std::copy(from + p * size, from + p * size + count, spare);
  std::fill(spare + count, spare + kBlock * size, 0.f);
  work(p, spare);
}

// One call's shapes and memory. scores: (group, stride), stride a multiple of kLanes and not less
// than the positions; spare: kBlock * head_dim values.
struct Step {
  std::size_t positions, stride;
  MatrixView<const float> queries;
  float *scores, *spare, *out;
};

// scores(g, p) = queries(g) . keys(p).
NEAP_MULTIVERSION
void score(const Step& step, const float* keys) {
  const std::size_t size = step.queries.cols;
  for_blocks(keys, step.positions, size, step.spare, [&](std::size_t p, const float* rows) {
    for (std::size_t g = 0; g < step.queries.rows; ++g) {
      const Quad quad = dots(step.queries.data + g * step.queries.stride, rows, size);
      std::memcpy(step.scores + g * step.stride + p, &quad, sizeof quad);
    }
  });
}

// out(g) = sum over p of scores(g, p) values(p).
NEAP_MULTIVERSION
void mix(const Step& step, const float* values) {
  const std::size_t size = step.queries.cols, group = step.queries.rows;
  std::fill(step.out, step.out + group * size, 0.f);
  for_blocks(values, step.positions, size, step.spare, [&](std::size_t p, const float* rows) {
    for (std::size_t g = 0; g < group; ++g) {
      add_rows(step.scores + g * step.stride + p, rows, size, step.out + g * size);
    }
  });
}

std::size_t round_up_to_lanes(std::size_t count) { return (count + kLanes - 1) / kLanes * kLanes; }

void attend_step_bf16(const KeyValues& cache, std::size_t row, std::size_t positions,
                      MatrixView<const float> queries, SoftmaxState* states, float* out) {
  const std::size_t group = queries.rows, size = queries.cols;
  const std::size_t stride = round_up_to_lanes(positions);
  thread_local Buffer float_buffer, half_buffer, decoded;
  float* scores = float_buffer.floats(group * (stride + StepBf16::round_up(size) + 1));
  float* totals = scores + group * stride;
  float* factors = totals + group * StepBf16::round_up(size);
  auto* weights =
      reinterpret_cast<Bf16*>(half_buffer.bytes(group * (stride + size) * sizeof(Bf16)));
  Bf16* operands = weights + group * stride;
  for (std::size_t g = 0; g < group; ++g) float_to_bf16(queries.row(g), operands + g * size, size);
  const StepBf16 step{group, positions, size, stride, weights};
  const auto load = [&](const KvRows& rows) {
    return reinterpret_cast<const Bf16*>(rows.load(row, positions, Operand::bf16, decoded));
  };
  score_bf16(step, operands, load(cache.keys), scores);
  for (std::size_t g = 0; g < group; ++g) {
    softmax_step_bf16(states[g], scores + g * stride, 0, positions, stride, weights + g * stride);
    factors[g] = 1.f / states[g].sum;
  }
  mix_bf16(step, load(cache.values), factors, totals, out);
}

void attend_step_int8(const KeyValues& cache, std::size_t row, std::size_t positions,
                      MatrixView<const float> queries, SoftmaxState* states, float* out) {
  const std::size_t group = queries.rows, size = queries.cols;
  const std::size_t stride = round_up_to_lanes(positions);
  thread_local Buffer buffer, scratch;
  float* scores = buffer.floats(group * (stride + 1));
  float* factors = scores + group * stride;
  auto* bytes = reinterpret_cast<std::uint8_t*>(scratch.bytes(Int8Rows::kHeads * 2 * stride));
  const auto rows_of = [&](const KvRows& rows) {
    return Int8Rows{reinterpret_cast<const std::int8_t*>(rows.data) + row * size, rows.scales + row,
                    positions, size};
  };
  score_int8(rows_of(cache.keys), queries, stride, scores);
  for (std::size_t g = 0; g < group; ++g) {
    float* weights = scores + g * stride;
    softmax_step(states[g], weights, 0, positions, stride, Operand::f32,
                 reinterpret_cast<std::byte*>(weights));
    factors[g] = 1.f / states[g].sum;
  }
  mix_int8(rows_of(cache.values), group, scores, stride, factors, bytes, out);
}

void attend_step_f32(const KeyValues& cache, std::size_t row, std::size_t positions,
                     MatrixView<const float> queries, SoftmaxState* states, float* out) {
  const std::size_t group = queries.rows, size = queries.cols;
  const std::size_t stride = round_up_to_lanes(positions);
  thread_local Buffer buffer, decoded;
  float* scores = buffer.floats(group * stride + kBlock * size);
  const Step step{positions, stride, queries, scores, scores + group * stride, out};
  const auto load = [&](const KvRows& rows) {
    return reinterpret_cast<const float*>(rows.load(row, positions, Operand::f32, decoded));
  };
  score(step, load(cache.keys));
  for (std::size_t g = 0; g < group; ++g) {
    float* weights = scores + g * stride;
    softmax_step(states[g], weights, 0, positions, stride, Operand::f32,
                 reinterpret_cast<std::byte*>(weights));
  }
  mix(step, load(cache.values));
  for (std::size_t g = 0; g < group; ++g) {
    scale(out + g * size, 1.f / states[g].sum, size, out + g * size);
  }
}

}  // namespace

void attend_step(const KeyValues& cache, Operand operand, std::size_t row, std::size_t positions,
                 MatrixView<const float> queries, SoftmaxState* states, float* out) {
  const bool int8 = cache.keys.type == KvType::int8 && queries.cols <= Int8Rows::kLargestSize;
  const auto attend = operand != Operand::bf16 ? attend_step_f32
                      : int8                   ? attend_step_int8
                                               : attend_step_bf16;
  attend(cache, row, positions, queries, states, out);
}

}  // namespace neap
