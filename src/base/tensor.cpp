#include "neap/tensor.h"

#include <array>

#include "neap/check.h"

namespace neap {
namespace {

struct Traits {
  DType type;
  std::string_view name;
  std::size_t elements, bytes;
};

// In the order of the enum. The block sizes of GGUF's types are those of ggml-common.h.
constexpr std::array kTraits = {
    Traits{DType::f64, "F64", 1, 8},        Traits{DType::f32, "F32", 1, 4},
    Traits{DType::f16, "F16", 1, 2},        Traits{DType::bf16, "BF16", 1, 2},
    Traits{DType::f8_e4m3, "F8_E4M3", 1, 1}, Traits{DType::f8_e5m2, "F8_E5M2", 1, 1},
    Traits{DType::i64, "I64", 1, 8},        Traits{DType::i32, "I32", 1, 4},
    Traits{DType::i16, "I16", 1, 2},        Traits{DType::i8, "I8", 1, 1},
    Traits{DType::u8, "U8", 1, 1},          Traits{DType::boolean, "BOOL", 1, 1},
    Traits{DType::q4_0, "Q4_0", 32, 18},    Traits{DType::q4_1, "Q4_1", 32, 20},
    Traits{DType::q5_0, "Q5_0", 32, 22},    Traits{DType::q5_1, "Q5_1", 32, 24},
    Traits{DType::q8_0, "Q8_0", 32, 34},    Traits{DType::q2_k, "Q2_K", 256, 84},
    Traits{DType::q3_k, "Q3_K", 256, 110},  Traits{DType::q4_k, "Q4_K", 256, 144},
    Traits{DType::q5_k, "Q5_K", 256, 176},  Traits{DType::q6_k, "Q6_K", 256, 210},
    Traits{DType::iq4_nl, "IQ4_NL", 32, 18}, Traits{DType::mxfp4, "MXFP4", 32, 17},
    Traits{DType::nvfp4, "NVFP4", 64, 36},
};

const Traits& traits(DType type) {
  const Traits& t = kTraits[static_cast<std::size_t>(type)];
  NEAP_CHECK(t.type == type);
  return t;
}

}  // namespace

std::string_view name_of(DType type) { return traits(type).name; }
std::size_t block_elements(DType type) { return traits(type).elements; }
std::size_t block_bytes(DType type) { return traits(type).bytes; }

std::string to_string(const Shape& shape) {
  std::string s = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) s += ", ";
    s += std::to_string(shape[i]);
  }
  return s + "]";
}

}  // namespace neap
