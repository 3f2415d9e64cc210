// Linear layers that encode what they read, on the fly: W4A4 in LO-BCQ's own arithmetic
// (codec/lobcq.h), and any layer on inputs that were rounded to a 4-bit format.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <variant>

#include "codec/block_scaled.h"
#include "codec/lobcq.h"
#include "codec/lobcq_encode.h"
#include "model/linear.h"

namespace neap {

// How a layer's inputs become LO-BCQ: scales by the maximum of each array.
struct InputEncoder {
  std::shared_ptr<const LobcqEncoder> encoder;
  Codebooks codebooks;  // the encoder's
  std::optional<float>
      tensor_scale;  // of calibration; without, each token has tensor_scale_for its largest value
  ScaleChoice scales = ScaleChoice::maximum;
};

// How a layer's inputs are encoded.
using InputEncoding = std::variant<InputEncoder, BlockScaledInputs>;

// y = multiply(encoded x, weight) + bias, with the bits that multiply() of codec/lobcq.h gives;
// with scales per token, those that it gives token by token. apply throws Error(data) for an input
// that is not finite. `weight` has the encoder's block_array. Memory: one byte per weight, and four
// per array.
std::unique_ptr<Linear> make_coded_linear(const LobcqTensor& weight,
                                          const Codebooks& weight_codebooks,
                                          std::span<const float> bias, InputEncoder inputs);

// `inner` on inputs that were encoded and decoded again, which a block-scaled format's group must divide.
// apply throws Error(data) for an input that is not finite.
std::unique_ptr<Linear> make_input_coding_linear(std::unique_ptr<const Linear> inner,
                                                 InputEncoding inputs);

}  // namespace neap
