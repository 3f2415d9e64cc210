#include "model/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "base/multiversion.h"
#include "base/random.h"
#include "neap/check.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::size_t kLanes = 16;    // independent sums, so that the compiler may use vectors
constexpr std::size_t kBlock = 1024;  // logits whose probabilities are summed apart

// e^x for x <= 0, relative error below 1e-6, exactly 0 where e^x would be below the normal floats.
// Cody and Waite's reduction x = n ln 2 + r, then Taylor's polynomial for |r| <= ln 2 / 2.
inline float exp_of_negative(float x) {
  const float clamped = x > -87.0f ? x : -87.0f;
  const float n = (clamped * 1.44269504f + 12582912.0f) - 12582912.0f;  // 1.5 * 2^23: to nearest
  const float r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.0f / 720;
  for (const float c : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = p * r + c;
  const float scale = std::bit_cast<float>((static_cast<std::int32_t>(n) + 127) << 23);
  return x > -87.0f ? p * scale : 0.0f;
}

// Lane j of the results is over logits j, j + kLanes, ...
struct LaneStatistics {
  float largest[kLanes];
  float non_finite[kLanes];  // 0 as long as every logit is finite, else NaN
};

NEAP_MULTIVERSION
void scan_lanes(const float* logits, std::size_t vectors, LaneStatistics* lanes) {
  for (std::size_t i = 0; i < vectors; ++i)
    for (std::size_t j = 0; j < kLanes; ++j) {
      const float x = logits[i * kLanes + j];
      lanes->largest[j] = x > lanes->largest[j] ? x : lanes->largest[j];
      lanes->non_finite[j] += x - x;
    }
}

// out[i] = e^((logits[i] - largest) / temperature).
NEAP_MULTIVERSION
void weights_of(const float* logits, std::size_t count, float largest, float inverse_temperature,
                float* out) {
  for (std::size_t i = 0; i < count; ++i)
    out[i] = exp_of_negative((logits[i] - largest) * inverse_temperature);
}

NEAP_MULTIVERSION
void add_lanes(const float* values, std::size_t vectors, float* lanes) {
  for (std::size_t i = 0; i < vectors; ++i)
    for (std::size_t j = 0; j < kLanes; ++j) lanes[j] += values[i * kLanes + j];
}

// The largest logit. Throws if one is not finite.
float largest_of(std::span<const float> logits) {
  LaneStatistics lanes;
  std::fill_n(lanes.largest, kLanes, -INFINITY);
  std::fill_n(lanes.non_finite, kLanes, 0.0f);
  const std::size_t vectors = logits.size() / kLanes;
  scan_lanes(logits.data(), vectors, &lanes);
  float largest = -INFINITY, non_finite = 0;
  for (std::size_t j = 0; j < kLanes; ++j) {
    largest = std::max(largest, lanes.largest[j]);
    non_finite += lanes.non_finite[j];
  }
  for (std::size_t i = vectors * kLanes; i < logits.size(); ++i) {
    largest = std::max(largest, logits[i]);
    non_finite += logits[i] - logits[i];
  }
  if (!(non_finite == 0)) throw Error(ErrorCode::data, "a logit is not a finite number");
  return largest;
}

// Softmax without its denominator, in blocks of kBlock.
class UnscaledSoftmax {
 public:
  UnscaledSoftmax(std::span<const float> logits, double temperature)
      : logits_(logits),
        largest_(largest_of(logits)),
        inverse_temperature_(static_cast<float>(std::min(1 / temperature, 1e30))) {}

  std::size_t blocks() const { return (logits_.size() + kBlock - 1) / kBlock; }
  // Its weights; valid until the next call.
  std::span<const float> block(std::size_t index) {
    const std::size_t first = index * kBlock, count = std::min(kBlock, logits_.size() - first);
    weights_of(logits_.data() + first, count, largest_, inverse_temperature_, buffer_);
    return {buffer_, count};
  }
  double sum(std::size_t index) {
    const auto weights = block(index);
    float lanes[kLanes] = {};
    const std::size_t vectors = weights.size() / kLanes;
    add_lanes(weights.data(), vectors, lanes);
    double total = std::accumulate(lanes, lanes + kLanes, 0.0);
    return std::accumulate(weights.begin() + static_cast<std::ptrdiff_t>(vectors * kLanes),
                           weights.end(), total);
  }

 private:
  std::span<const float> logits_;
  float largest_, inverse_temperature_;
  float buffer_[kBlock];
};

// Two passes over the logits and one over a block: a batch of long rows is sampled in milliseconds.
TokenId draw_from_all(std::span<const float> logits, double temperature, double uniform) {
  UnscaledSoftmax weights(logits, temperature);
  std::vector<double> sums(weights.blocks());
  for (std::size_t b = 0; b < sums.size(); ++b) sums[b] = weights.sum(b);
  double left = uniform * std::accumulate(sums.begin(), sums.end(), 0.0);
  std::size_t b = 0;
  // A block without weight is never stopped at, whatever rounding left over.
  const std::size_t last = static_cast<std::size_t>(
      std::find_if(sums.rbegin(), sums.rend(), [](double s) { return s > 0; }).base() -
      sums.begin() - 1);
  while (b < last && left >= sums[b]) left -= sums[b++];
  const auto block = weights.block(b);
  std::size_t chosen = 0;
  for (std::size_t i = 0; i < block.size(); ++i) {
    if (block[i] == 0) continue;
    chosen = i;
    if (left < block[i]) break;
    left -= block[i];
  }
  return static_cast<TokenId>(b * kBlock + chosen);
}

// The `count` likeliest ids, likeliest first.
std::vector<TokenId> likeliest(std::span<const float> logits, std::size_t count) {
  std::vector<TokenId> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto before = [&](TokenId a, TokenId b) {
    const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  const auto end = ids.begin() + static_cast<std::ptrdiff_t>(count);
  if (count < ids.size()) std::nth_element(ids.begin(), end, ids.end(), before);
  std::sort(ids.begin(), end, before);
  ids.resize(count);
  return ids;
}

TokenId draw_from_likeliest(std::span<const float> logits, const SampleOptions& options,
                            double uniform) {
  const double largest = largest_of(logits);
  const auto top_k = static_cast<std::size_t>(options.top_k);
  const std::vector<TokenId> ids =
      likeliest(logits, top_k == 0 ? logits.size() : std::min(top_k, logits.size()));
  std::vector<double> weights;
  for (const TokenId id : ids)
    weights.push_back(
        std::exp((logits[static_cast<std::size_t>(id)] - largest) / options.temperature));
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::size_t kept = 0;  // as many as it takes to reach top_p, one at least
  double mass = 0;
  while (kept < ids.size() && (kept == 0 || mass < options.top_p * all)) mass += weights[kept++];
  double left = uniform * mass;
  std::size_t i = 0;
  while (i + 1 < kept && left >= weights[i]) left -= weights[i++];
  return ids[i];
}

}  // namespace

void check_options(const SampleOptions& options) {
  const auto require = [](bool holds, const char* option, const char* expected, double found) {
    if (!holds)
      throw Error(ErrorCode::argument, std::string(option) + " is out of range",
                  {.expected = expected, .found = std::to_string(found)});
  };
  require(options.temperature >= 0 && std::isfinite(options.temperature), "temperature",
          "0 or more", options.temperature);
  require(options.top_k >= 0, "top_k", "0 or more", static_cast<double>(options.top_k));
  require(options.top_p > 0 && options.top_p <= 1, "top_p", "above 0, at most 1", options.top_p);
  require(options.max_tokens >= 0, "max_tokens", "0 or more",
          static_cast<double>(options.max_tokens));
}

double sample_uniform(std::uint64_t seed, std::uint64_t sequence, std::uint64_t step) {
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  const auto high = [](std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); };
  const PhiloxBlock bits =
      philox({low(step), high(step), low(sequence), high(sequence)}, stream_key(seed, "sample"));
  return uniform_double(bits[0], bits[1]);
}

TokenId pick_token(std::span<const float> logits, const SampleOptions& options, double uniform) {
  NEAP_CHECK(!logits.empty());
  if (options.temperature == 0) {
    const float largest = largest_of(logits);
    return static_cast<TokenId>(std::find(logits.begin(), logits.end(), largest) - logits.begin());
  }
  if (options.top_k == 0 && options.top_p == 1)
    return draw_from_all(logits, options.temperature, uniform);
  return draw_from_likeliest(logits, options, uniform);
}

}  // namespace neap
