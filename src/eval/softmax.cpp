#include "eval/softmax.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#include "base/multiversion.h"

namespace neap {
namespace {

// Columns whose sum stays in fp32 before it joins the fp64 one.
constexpr std::size_t kChunk = 512;

// exp(x) for x <= 0, relative error below 2e-7; below -87 it stays at exp(-87). Range reduction and
// polynomial as in Cephes' expf (S. Moshier, Methods and Programs for Mathematical Functions, 1989).
[[gnu::always_inline]] inline float exp_nonpositive(float x) {
  constexpr float kShift = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer in the low bits
  x = x < -87.f ? -87.f : x;
  const float shifted = x * 1.44269504088896341f + kShift;
  const float n = shifted - kShift;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  const std::uint32_t exponent =
      (std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(kShift) + 127u) << 23;
  return p * std::bit_cast<float>(exponent);
}

NEAP_MULTIVERSION float largest(const float* x, std::size_t count) {
  float peak = x[0];
#pragma omp simd reduction(max : peak)
  for (std::size_t i = 0; i < count; ++i) peak = peak < x[i] ? x[i] : peak;
  return peak;
}

NEAP_MULTIVERSION float chunk_sum(const float* x, float peak, std::size_t count) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < count; ++i) sum += exp_nonpositive(x[i] - peak);
  return sum;
}

// Sum of p (e^u - 1 - u) with u = log q - log p. Because p and q both sum to one this is the
// divergence, in terms that are never negative and of second order in u: nothing cancels.
NEAP_MULTIVERSION float chunk_divergence(const float* p_logits, float p_log_sum,
                                         const float* q_logits, float q_log_sum, float offset,
                                         std::size_t count) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < count; ++i) {
    const float p = exp_nonpositive(p_logits[i] - p_log_sum);
    const float q = exp_nonpositive(q_logits[i] - q_log_sum);
    const float u = (q_logits[i] - p_logits[i]) + offset;
    // The series' next term is below 1e-6 of the sum for |u| < 0.5.
    const float series = 0.5f + u * (1 / 6.f + u * (1 / 24.f + u * (1 / 120.f + u * (1 / 720.f +
                                u * (1 / 5040.f)))));
    sum += u * u < 0.25f ? p * (u * u * series) : q - p - p * u;
  }
  return sum;
}

}  // namespace

SoftmaxRow softmax_row(const float* logits, std::size_t count) {
  SoftmaxRow row;
  row.peak = logits[0];
  std::size_t peak_chunk = 0;
  for (std::size_t begin = 0; begin < count; begin += kChunk) {
    const float peak = largest(logits + begin, std::min(kChunk, count - begin));
    if (peak > row.peak) row.peak = peak, peak_chunk = begin;
  }
  row.top = static_cast<std::size_t>(
      std::find(logits + peak_chunk, logits + count, row.peak) - logits);
  for (std::size_t begin = 0; begin < count; begin += kChunk) {
    row.sum += chunk_sum(logits + begin, row.peak, std::min(kChunk, count - begin));
  }
  row.log_sum = row.peak + std::log(row.sum);
  return row;
}

double kl_divergence(const float* p_logits, const SoftmaxRow& p, const float* q_logits,
                     const SoftmaxRow& q, std::size_t count) {
  const double offset = p.log_sum - q.log_sum;
  double sum = 0;
  for (std::size_t begin = 0; begin < count; begin += kChunk) {
    sum += chunk_divergence(p_logits + begin, static_cast<float>(p.log_sum), q_logits + begin,
                            static_cast<float>(q.log_sum), static_cast<float>(offset),
                            std::min(kChunk, count - begin));
  }
  return sum;
}

}  // namespace neap
