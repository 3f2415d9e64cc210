// Importance matrices of llama.cpp: for the inputs of each weight, how large they are on calibration text. Read in both
// forms that llama-imatrix writes, written in the newer one. Source: tools/imatrix and common/imatrix-loader.cpp there;
// the layout, byte by byte: docs/formats/imatrix.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace neap {

struct ImportanceMatrix {
  struct Entry {
    std::vector<float> sums;  // of x_i^2, one per input, finite and >= 0
    std::int64_t count = 0;   // > 0; sums over this are what an input's square is on average
  };
  std::map<std::string, Entry> entries;  // by the weight's name in GGUF's words: "blk.0.attn_q.weight"
  std::vector<std::string> datasets;     // what it was computed on, as whoever computed it calls that
  std::int64_t chunks = 0, chunk_size = 0;  // windows of text, and tokens of each; 0: the file does not say
};

// Throws Error(format) naming file, entry and offset for anything that is not as the format has it; Error(unsupported)
// for entries of several matrices, which mixtures of experts have. A file of the older form may end after its entries,
// as its first writers had it.
ImportanceMatrix parse_imatrix(std::span<const std::byte> file, const std::string& path);
// Throws Error(io), too.
ImportanceMatrix read_imatrix(const std::string& path);

// Creates or replaces a GGUF of type imatrix, whole or not at all. Throws Error(io), and Error(argument) for an entry
// whose name is too long for GGUF.
void write_imatrix(const ImportanceMatrix& matrix, const std::string& path);

}  // namespace neap
