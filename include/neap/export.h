// A quantized model in another format that holds the very same weights: codes, scales and zeros find new places, and
// no value changes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "neap/quantize.h"

namespace neap {

struct ConvertOptions {
  FileFormat format = FileFormat::compressed_tensors;  // not neap
  std::string output;        // a directory that does not exist yet; of GGUF also a file, NAME.gguf
  bool overwrite = false;
  std::optional<std::uint64_t> max_shard_bytes = {};  // tensors' bytes in a file; unset: 5 GiB, a GGUF is one file
  bool allow_dense = false;  // of a GGUF, layers that no grid of the format holds become F32 instead of an error
  int threads = 0;           // 0: OpenMP's default
  std::string command = {};     // for the model card
  std::string base_model = {};  // likewise, ORG/NAME; empty: what the input's card says
  ProgressCallback progress = {};
};

struct ConvertReport {
  std::string output;
  // How many modules lie on which grid, in words; those that became dense are none of them.
  std::vector<std::pair<std::string, std::int64_t>> grids;
  std::uint64_t file_bytes = 0;
  double file_bits_per_weight = 0;
  std::vector<QuantizeReport::Engine> engines;
  VerifyReport verification;       // against the input: every error of weights is 0
  std::vector<std::string> notes;  // what the format has no words for, what became dense
  double seconds = 0;

  std::string to_json() const;
};

// `input`: an output of Neap, or any model in compressed-tensors' integer and 4-bit float formats, GPTQ's, LO-BCQ, or a
// GGUF of Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL, MXFP4 (rows of other types, embedding and head of a GGUF become F32). Of
// GGUF's block types each layer gets the smallest that holds it. Throws Error(argument) naming the first module that the format cannot hold,
// why, and what to do instead; Error as quantize().
ConvertReport convert(const Checkpoint& input, const ConvertOptions& options);

}  // namespace neap
