// Quantized models run from their packed bytes.
#pragma once

#include <memory>
#include <string>

#include "neap/model.h"

namespace neap {

// How a matrix of the vocabulary, the head or the embedding, is kept. A head that is not `stored` reads
// activations rounded to 8 bits.
enum class VocabularyWeights {
  stored,  // a head dense, in the precision of the model; rows of an embedding as the file has them
  int8,    // 8 bits in groups of 64
  lobcq,   // LO-BCQ with the universal codebooks: 4.5 bits
};
VocabularyWeights vocabulary_weights_from_name(const std::string& name);  // throws Error(argument)
std::string name_of(VocabularyWeights weights);

struct PackedOptions {
  // Whether layers whose inputs have no 4-bit format of their own round them to 8 bits, with a
  // scale per group of the weights (at most 128 inputs). If not, a model in bf16 rounds them to
  // that, its weights stay integers with fp32 scales; in fp32 those layers are decoded.
  bool int8_inputs = false;
  // Both are rounded when they are loaded, each 8192 rows by themselves. Where the model ties them and
  // both are kept alike, they are one table in memory.
  VocabularyWeights head = VocabularyWeights::stored, embedding = VocabularyWeights::stored;
};

// For LoadOptions::packed. LO-BCQ layers on LO-BCQ inputs run from packed bytes, and their results
// are those without this, bit for bit; everything else is as the options say. Layers with groups that
// no kernel takes, and layers in other formats on inputs that are rounded to 4 bits, are decoded.
std::shared_ptr<const PackedLinears> packed_linears(const PackedOptions& options = {});

}  // namespace neap
