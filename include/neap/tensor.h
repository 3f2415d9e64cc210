// Element types as they lie on disk, and shapes. GGUF's block types hold a fixed number of elements
// in a fixed number of bytes; plain types are blocks of one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace neap {

enum class DType {
  f64, f32, f16, bf16, f8_e4m3, f8_e5m2, i64, i32, i16, i8, u8, boolean,
  q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, mxfp4, nvfp4,
};

// Name in the words of the format that has it: "F32", "BF16", "Q4_K".
std::string_view name_of(DType type);
// Elements per block (1 for plain types) and bytes per block.
std::size_t block_elements(DType type);
std::size_t block_bytes(DType type);

// Row-major, slowest dimension first: a weight is {out, in}, as Hugging Face writes it. GGUF's
// reversed dims are turned around by its reader.
using Shape = std::vector<std::int64_t>;

// "[576, 1536]"
std::string to_string(const Shape& shape);

struct TensorInfo {
  std::string name;
  DType type = DType::f32;
  Shape shape;
  std::string file;          // path of the file that holds it
  std::uint64_t offset = 0;  // of the first byte, from the start of that file
  std::uint64_t bytes = 0;   // length in the file
};

}  // namespace neap
