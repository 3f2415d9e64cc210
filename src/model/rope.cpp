// Rotary position embedding (Su et al., arXiv 2104.09864): the table of angles.
#include <cmath>
#include <numbers>

#include "base/parallel.h"
#include "model/block.h"

namespace neap {
namespace {

// Llama 3.1 stretches the long waves by `factor`, leaves the short ones alone and blends in
// between.
double llama3_frequency(const RopeScaling& scaling, double frequency) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  const auto original = static_cast<double>(scaling.original_positions);
  if (wavelength < original / scaling.high_frequency) return frequency;
  if (wavelength > original / scaling.low_frequency) return frequency / scaling.factor;
  const double smooth = (original / wavelength - scaling.low_frequency) /
                        (scaling.high_frequency - scaling.low_frequency);
  return (1 - smooth) * frequency / scaling.factor + smooth * frequency;
}

float frequency_of(const ModelConfig& config, std::size_t pair) {
  const double exponent = 2.0 * static_cast<double>(pair) / static_cast<double>(config.head_dim);
  double frequency = std::pow(config.rope_theta, -exponent);
  if (!config.rope_factors.empty()) frequency /= static_cast<double>(config.rope_factors[pair]);
  switch (config.rope_scaling.kind) {
    case RopeScaling::Kind::none:
      break;
    case RopeScaling::Kind::linear:
      frequency /= config.rope_scaling.factor;
      break;
    case RopeScaling::Kind::llama3:
      frequency = llama3_frequency(config.rope_scaling, frequency);
      break;
  }
  return static_cast<float>(frequency);
}

}  // namespace

RopeTable make_rope_table(const ModelConfig& config, std::size_t positions) {
  const auto half = static_cast<std::size_t>(config.head_dim) / 2;
  NEAP_CHECK(config.rope_factors.empty() || config.rope_factors.size() == half);
  std::vector<float> frequency(half);
  for (std::size_t i = 0; i < half; ++i) frequency[i] = frequency_of(config, i);
  RopeTable table{{positions, half}, {positions, half}};
  parallel_for(positions, [&](std::size_t p) {
    for (std::size_t i = 0; i < half; ++i) {
      // The product is rounded to fp32 as in training and in every other implementation; far from
      // the start that matters more than the cosine's own rounding.
      const float angle = static_cast<float>(p) * frequency[i];
      table.cosine(p, i) = static_cast<float>(std::cos(static_cast<double>(angle)));
      table.sine(p, i) = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  });
  return table;
}

}  // namespace neap
