// Where quantized layers come from that run from their packed bytes. Kernels are above the model,
// so whoever loads one hands this in (neap/runtime.h).
#pragma once

#include <memory>
#include <span>

#include "codec/fp4.h"
#include "codec/gguf_blocks.h"
#include "model/coded_linear.h"
#include "model/linear.h"
#include "neap/codec.h"
#include "neap/runtime.h"

namespace neap {

// Some rows of head or embedding: a layer, and rows to look up, over the same packed bytes.
class VocabularyPart : public Linear {
 public:
  // Row `row` of the weights, the bits of the codec's dequantize. out: in() values.
  virtual void read_row(std::size_t row, float* out) const = 0;
};

class PackedLinears {
 public:
  virtual ~PackedLinears() = default;
  // Each returns null for what it leaves to decoding. bias: out values or empty.
  // LO-BCQ on inputs in its own format of the same block_array: the bits of make_coded_linear.
  virtual std::unique_ptr<const Linear> coded(const LobcqTensor& weight, const Codebooks& codebooks,
                                              std::span<const float> bias,
                                              const InputEncoder& inputs) const = 0;
  // Whether any layer on inputs that are not encoded runs packed in a model of that precision.
  virtual bool takes(Precision precision) const = 0;
  // On such inputs, in a model of that precision.
  virtual std::unique_ptr<const Linear> plain(const LobcqTensor& weight, const Codebooks& codebooks,
                                              std::span<const float> bias,
                                              Precision precision) const = 0;
  virtual std::unique_ptr<const Linear> plain(const QuantizedTensor& weight,
                                              std::span<const float> bias,
                                              Precision precision) const = 0;
  virtual std::unique_ptr<const Linear> plain(const Fp4Tensor& weight, std::span<const float> bias,
                                              Precision precision) const = 0;
  virtual std::unique_ptr<const Linear> plain(const GgufTensor& weight, std::span<const float> bias,
                                              Precision precision) const = 0;
  virtual VocabularyWeights head() const = 0;
  virtual VocabularyWeights embedding() const = 0;
  // how: not `stored`.
  virtual std::unique_ptr<const VocabularyPart> vocabulary_part(
      VocabularyWeights how, MatrixView<const float> rows) const = 0;
};

}  // namespace neap
