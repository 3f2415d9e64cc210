#include "model/sampler.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <string>
#include <vector>

#include "base/multiversion.h"
#include "base/random.h"
#include "model/vector16.h"
#include "neap/check.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::size_t kBlock = 64 * kLanes;  // logits whose probabilities are summed apart

// kLanes values from `first` on; those past the end read as `fill`.
NEAP_INLINE Vec vector_at(const float* values, std::size_t count, std::size_t first, float fill) {
  if (first + kLanes <= count) return load(values + first);
  float rest[kLanes];
  for (std::size_t i = 0; i < kLanes; ++i) rest[i] = first + i < count ? values[first + i] : fill;
  return load(rest);
}

// The largest value; NaN unless all are finite.
NEAP_MULTIVERSION
float largest_if_finite(const float* values, std::size_t count) {
  Vec most = splat(values[0]), zero{};  // x - x is 0 for what is finite, else NaN
  for (std::size_t i = 0; i < count; i += kLanes) {
    const Vec x = vector_at(values, count, i, values[0]);
    most = max(x, most);
    zero += x - x;
  }
  float lanes[kLanes];
  store(most, lanes);
  return *std::max_element(lanes, lanes + kLanes) + sum(zero);
}

// weights[i] = 2^((logits[i] - largest) scale), 0 below 2^-127; returns their sum. There is room
// for a multiple of kLanes weights.
NEAP_MULTIVERSION
float exponentials(const float* logits, std::size_t count, float largest, float scale,
                   float* weights) {
  Vec total{};
  for (std::size_t i = 0; i < count; i += kLanes) {
    const Vec weight = exp2((vector_at(logits, count, i, -INFINITY) - largest) * scale);
    store(weight, weights + i);
    total += weight;
  }
  return sum(total);
}

float largest_of(std::span<const float> logits) {
  const float largest = largest_if_finite(logits.data(), logits.size());
  if (!std::isfinite(largest)) throw Error(ErrorCode::data, "a logit is not a finite number");
  return largest;
}

// Softmax without its denominator, in blocks of kBlock.
class UnscaledSoftmax {
 public:
  UnscaledSoftmax(std::span<const float> logits, double temperature)
      : logits_(logits),
        largest_(largest_of(logits)),
        scale_(static_cast<float>(std::min(std::numbers::log2e / temperature, 1e30))) {}

  std::size_t blocks() const { return (logits_.size() + kBlock - 1) / kBlock; }
  // A block's sum, and its weights, valid until the next call.
  double sum(std::size_t index) {
    const std::size_t first = index * kBlock;
    count_ = std::min(kBlock, logits_.size() - first);
    return exponentials(logits_.data() + first, count_, largest_, scale_, buffer_);
  }
  std::span<const float> weights() const { return {buffer_, count_}; }

 private:
  std::span<const float> logits_;
  float largest_, scale_;
  std::size_t count_ = 0;
  float buffer_[kBlock];
};

// Two passes over the logits and one over a block: a batch of long rows is sampled in milliseconds.
TokenId draw_from_all(std::span<const float> logits, double temperature, double uniform) {
  UnscaledSoftmax softmax(logits, temperature);
  std::vector<double> sums(softmax.blocks());
  for (std::size_t b = 0; b < sums.size(); ++b) sums[b] = softmax.sum(b);
  double left = uniform * std::accumulate(sums.begin(), sums.end(), 0.0);
  // Rounding may leave something over: what has no weight is not stopped at all the same.
  std::size_t last = sums.size() - 1;
  while (last > 0 && sums[last] == 0) --last;
  std::size_t b = 0;
  while (b < last && left >= sums[b]) left -= sums[b++];
  softmax.sum(b);
  const auto weights = softmax.weights();
  std::size_t chosen = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    chosen = i;
    if (left < weights[i]) break;
    left -= weights[i];
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

// The `count` likeliest cut to those that reach `needed` together (one at least).
Candidates cut(std::span<const float> logits, double temperature, std::size_t count,
               double needed) {
  Candidates candidates{likeliest(logits, count), {}};
  const double largest = logits[static_cast<std::size_t>(candidates.ids[0])];
  double mass = 0;
  for (const TokenId id : candidates.ids) {
    if (mass >= needed && mass > 0) break;
    const double logit = logits[static_cast<std::size_t>(id)];
    candidates.weights.push_back(std::exp((logit - largest) / temperature));
    mass += candidates.weights.back();
  }
  candidates.ids.resize(candidates.weights.size());
  return candidates;
}

// The fewest likeliest that make up top_p of all.
Candidates cut_to_top_p(std::span<const float> logits, const SampleOptions& options) {
  const std::size_t size = logits.size();
  UnscaledSoftmax softmax(logits, options.temperature);
  double mass = 0;
  for (std::size_t b = 0; b < softmax.blocks(); ++b) mass += softmax.sum(b);
  for (std::size_t count = std::min<std::size_t>(64, size);; count = std::min(4 * count, size)) {
    Candidates found = cut(logits, options.temperature, count, options.top_p * mass);
    if (found.ids.size() < count || count == size) return found;  // usually a few of many suffice
  }
}

// Those that min_p alone leaves: a threshold on logits.
std::size_t count_above_min_p(std::span<const float> logits, const SampleOptions& options) {
  const double least = largest_of(logits) + options.temperature * std::log(options.min_p);
  return static_cast<std::size_t>(
      std::count_if(logits.begin(), logits.end(), [&](float logit) { return logit >= least; }));
}

TokenId draw_from_likeliest(std::span<const float> logits, const SampleOptions& options,
                            double uniform) {
  const Candidates left = candidates_of(logits, options);
  double rest = uniform * std::accumulate(left.weights.begin(), left.weights.end(), 0.0);
  std::size_t i = 0;
  while (i + 1 < left.ids.size() && rest >= left.weights[i]) rest -= left.weights[i++];
  return left.ids[i];
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
  require(options.min_p >= 0 && options.min_p <= 1, "min_p", "0 to 1", options.min_p);
  require(options.repetition_penalty > 0 && std::isfinite(options.repetition_penalty),
          "repetition_penalty", "above 0", options.repetition_penalty);
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

RepetitionPenalty::RepetitionPenalty(double penalty, std::size_t vocabulary)
    : penalty_(static_cast<float>(penalty)), seen_(penalty_ == 1 ? 0 : vocabulary) {}

void RepetitionPenalty::see(std::span<const TokenId> tokens) {
  if (penalty_ == 1) return;
  for (const TokenId token : tokens) {
    const auto index = static_cast<std::size_t>(token);
    if (index >= seen_.size() || seen_[index]) continue;  // whoever runs the model refuses strange ids
    seen_[index] = true;
    tokens_.push_back(token);
  }
}

void RepetitionPenalty::forget() {
  for (const TokenId token : tokens_) seen_[static_cast<std::size_t>(token)] = false;
  tokens_.clear();
}

void RepetitionPenalty::apply(std::span<float> logits) const {
  for (const TokenId token : tokens_) {
    float& logit = logits[static_cast<std::size_t>(token)];
    logit = logit > 0 ? logit / penalty_ : logit * penalty_;
  }
}

Candidates candidates_of(std::span<const float> logits, const SampleOptions& options) {
  largest_of(logits);  // throws unless all are finite
  std::size_t count = logits.size();
  if (options.top_k > 0) count = std::min(count, static_cast<std::size_t>(options.top_k));
  if (options.min_p > 0) count = std::min(count, count_above_min_p(logits, options));
  if (options.top_p == 1) return cut(logits, options.temperature, count, INFINITY);
  Candidates found;
  if (options.top_k > 0) {
    const auto top = std::min(logits.size(), static_cast<std::size_t>(options.top_k));
    const Candidates all = cut(logits, options.temperature, top, INFINITY);
    const double mass = std::accumulate(all.weights.begin(), all.weights.end(), 0.0);
    found = cut(logits, options.temperature, top, options.top_p * mass);
  } else {
    found = cut_to_top_p(logits, options);
  }
  found.ids.resize(std::min(found.ids.size(), count));
  found.weights.resize(found.ids.size());
  return found;
}

TokenId pick_token(std::span<const float> logits, const SampleOptions& options, double uniform) {
  NEAP_CHECK(!logits.empty());
  if (options.temperature == 0) {
    const float largest = largest_of(logits);
    return static_cast<TokenId>(std::find(logits.begin(), logits.end(), largest) - logits.begin());
  }
  if (options.top_k == 0 && options.top_p == 1 && options.min_p == 0)
    return draw_from_all(logits, options.temperature, uniform);
  return draw_from_likeliest(logits, options, uniform);
}

}  // namespace neap
