// Block layouts: ggml-common.h of llama.cpp. Multi-byte fields are little-endian; d, dmin and m are
// fp16. This file is compiled without contraction into fused multiply-adds: one rounding per
// operation, as in the reference.
#include "io/dequantize.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "base/half.h"
#include "base/iq4_nl.h"
#include "base/multiversion.h"
#include "neap/check.h"

namespace neap {
namespace {

using Byte = std::uint8_t;

constexpr std::size_t kSmall = 32;   // elements per block of the Q*_0 and Q*_1 types
constexpr std::size_t kSuper = 256;  // elements per block of the Q*_K types

inline float half_at(const Byte* p) {
  Fp16 bits;
  std::memcpy(&bits, p, sizeof bits);
  return fp16_to_float(bits);
}

// y[j] and y[j + 16] lie in the nibbles of byte j.
NEAP_MULTIVERSION
void q4_0(const Byte* block, float* y, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, block += 18, y += kSmall) {
    const float d = half_at(block);
    for (int j = 0; j < 16; ++j) {
      y[j] = d * static_cast<float>((block[2 + j] & 15) - 8);
      y[j + 16] = d * static_cast<float>((block[2 + j] >> 4) - 8);
    }
  }
}

NEAP_MULTIVERSION
void q4_1(const Byte* block, float* y, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, block += 20, y += kSmall) {
    const float d = half_at(block), m = half_at(block + 2);
    for (int j = 0; j < 16; ++j) {
      y[j] = d * static_cast<float>(block[4 + j] & 15) + m;
      y[j + 16] = d * static_cast<float>(block[4 + j] >> 4) + m;
    }
  }
}

// As Q4_0, but the codes name entries of a table.
NEAP_MULTIVERSION
void iq4_nl(const Byte* block, float* y, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, block += 18, y += kSmall) {
    const float d = half_at(block);
    for (int j = 0; j < 16; ++j) {
      y[j] = d * static_cast<float>(kIq4NlTable[block[2 + j] & 15]);
      y[j + 16] = d * static_cast<float>(kIq4NlTable[block[2 + j] >> 4]);
    }
  }
}

// Twice the numbers of E2M1, by bit pattern: what ggml multiplies by half a scale.
constexpr std::array<std::int8_t, 16> kTwiceE2m1 = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// 2^(bits - 128), down to the subnormal 2^-128. Of 255, which is no number, 2^127 as in the reference.
inline float half_e8m0(Byte bits) {
  return std::bit_cast<float>(bits < 2 ? 0x00200000u << bits : static_cast<std::uint32_t>(bits - 1) << 23);
}

NEAP_MULTIVERSION
void mxfp4(const Byte* block, float* y, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, block += 17, y += kSmall) {
    const float d = half_e8m0(block[0]);
    for (int j = 0; j < 16; ++j) {
      y[j] = d * static_cast<float>(kTwiceE2m1[block[1 + j] & 15]);
      y[j + 16] = d * static_cast<float>(kTwiceE2m1[block[1 + j] >> 4]);
    }
  }
}

// Half of E4M3 without its sign, whose bit is not looked at but where it makes 0x7f, NaN, a number: as in the reference.
inline float half_ue4m3(Byte bits) {
  if (bits == 0x7f) return 0;
  // As an fp32 of the same exponent field, 2^-120 too small; subnormals come out of it by themselves.
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits & 0x7f) << 20) * 0x1p119f;
}

// Four groups of 16 in a block, each in 8 bytes: elements j and j + 8 share one.
NEAP_MULTIVERSION
void nvfp4(const Byte* block, float* y, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, block += 36) {
    for (int g = 0; g < 4; ++g, y += 16) {
      const float d = half_ue4m3(block[g]);
      const Byte* q = block + 4 + 8 * g;
      for (int j = 0; j < 8; ++j) {
        y[j] = d * static_cast<float>(kTwiceE2m1[q[j] & 15]);
        y[j + 8] = d * static_cast<float>(kTwiceE2m1[q[j] >> 4]);
      }
    }
  }
}

// The fifth bit of element e is bit e of a 32-bit word.
inline int fifth_bit(std::uint32_t high, int e) { return static_cast<int>((high >> e) & 1u) << 4; }

NEAP_MULTIVERSION
void q5_0(const Byte* block, float* y, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, block += 22, y += kSmall) {
    const float d = half_at(block);
    std::uint32_t high;
    std::memcpy(&high, block + 2, sizeof high);
    for (int j = 0; j < 16; ++j) {
      y[j] = d * static_cast<float>(((block[6 + j] & 15) | fifth_bit(high, j)) - 16);
      y[j + 16] = d * static_cast<float>(((block[6 + j] >> 4) | fifth_bit(high, j + 16)) - 16);
    }
  }
}

NEAP_MULTIVERSION
void q5_1(const Byte* block, float* y, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, block += 24, y += kSmall) {
    const float d = half_at(block), m = half_at(block + 2);
    std::uint32_t high;
    std::memcpy(&high, block + 4, sizeof high);
    for (int j = 0; j < 16; ++j) {
      y[j] = d * static_cast<float>((block[8 + j] & 15) | fifth_bit(high, j)) + m;
      y[j + 16] = d * static_cast<float>((block[8 + j] >> 4) | fifth_bit(high, j + 16)) + m;
    }
  }
}

NEAP_MULTIVERSION
void q8_0(const Byte* block, float* y, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, block += 34, y += kSmall) {
    const float d = half_at(block);
    for (int j = 0; j < 32; ++j)
      y[j] = d * static_cast<float>(static_cast<std::int8_t>(block[2 + j]));
  }
}

// Four bits of scale and four of minimum for each 16 elements; two bits per element, four elements
// that lie 32 apart in one byte.
NEAP_MULTIVERSION
void q2_k(const Byte* block, float* y, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, block += 84, y += kSuper) {
    const Byte* quants = block + 16;
    const float d = half_at(block + 80), dmin = half_at(block + 82);
    for (int s = 0; s < 16; ++s) {
      const float scale = d * static_cast<float>(block[s] & 15);
      const float minimum = dmin * static_cast<float>(block[s] >> 4);
      const Byte* q = quants + 32 * (s / 8) + 16 * (s % 2);
      const int shift = 2 * (s % 8 / 2);
      for (int l = 0; l < 16; ++l) {
        y[16 * s + l] = scale * static_cast<float>((q[l] >> shift) & 3) - minimum;
      }
    }
  }
}

// Sixteen 6-bit scales in 12 bytes: low nibbles in the first 8, two high bits in the last 4.
inline int q3_k_scale(const Byte* scales, int s) {
  const int low = s < 8 ? scales[s] & 15 : scales[s - 8] >> 4;
  return (low | ((scales[8 + s % 4] >> (2 * (s / 4))) & 3) << 4) - 32;
}

// Two low bits as in Q2_K; a clear third bit means minus four.
NEAP_MULTIVERSION
void q3_k(const Byte* block, float* y, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, block += 110, y += kSuper) {
    const Byte* quants = block + 32;
    const float d = half_at(block + 108);
    for (int s = 0; s < 16; ++s) {
      const float scale = d * static_cast<float>(q3_k_scale(block + 96, s));
      const Byte* q = quants + 32 * (s / 8) + 16 * (s % 2);
      const Byte* high = block + 16 * (s % 2);
      const int shift = 2 * (s % 8 / 2), bit = s / 2;
      for (int l = 0; l < 16; ++l) {
        const int third = ((high[l] >> bit) & 1) << 2;
        y[16 * s + l] = scale * static_cast<float>(((q[l] >> shift) & 3) + third - 4);
      }
    }
  }
}

struct ScaleAndMin {
  int scale, minimum;
};

// Eight pairs of 6 bits in 12 bytes (Q4_K and Q5_K): the first four plain, the last four with their
// low nibbles in bytes 8 to 11 and their high bits on top of the first ones.
inline ScaleAndMin k_scale(const Byte* s, int i) {
  if (i < 4) return {s[i] & 63, s[i + 4] & 63};
  return {(s[i + 4] & 15) | (s[i - 4] >> 6) << 4, (s[i + 4] >> 4) | (s[i] >> 6) << 4};
}

// 32 elements to a scale; elements 32 apart share a byte.
NEAP_MULTIVERSION
void q4_k(const Byte* block, float* y, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, block += 144, y += kSuper) {
    const float d = half_at(block), dmin = half_at(block + 2);
    for (int s = 0; s < 8; ++s) {
      const ScaleAndMin pair = k_scale(block + 4, s);
      const float scale = d * static_cast<float>(pair.scale);
      const float minimum = dmin * static_cast<float>(pair.minimum);
      const Byte* q = block + 16 + 32 * (s / 2);
      const int shift = 4 * (s % 2);
      for (int l = 0; l < 32; ++l) {
        y[32 * s + l] = scale * static_cast<float>((q[l] >> shift) & 15) - minimum;
      }
    }
  }
}

// As Q4_K; the fifth bits of elements 32 apart share a byte too.
NEAP_MULTIVERSION
void q5_k(const Byte* block, float* y, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, block += 176, y += kSuper) {
    const Byte* high = block + 16;
    const float d = half_at(block), dmin = half_at(block + 2);
    for (int s = 0; s < 8; ++s) {
      const ScaleAndMin pair = k_scale(block + 4, s);
      const float scale = d * static_cast<float>(pair.scale);
      const float minimum = dmin * static_cast<float>(pair.minimum);
      const Byte* q = block + 48 + 32 * (s / 2);
      const int shift = 4 * (s % 2);
      for (int l = 0; l < 32; ++l) {
        const int fifth = ((high[l] >> s) & 1) << 4;
        y[32 * s + l] = scale * static_cast<float>(((q[l] >> shift) & 15) | fifth) - minimum;
      }
    }
  }
}

// Per half of 128 elements: 64 bytes of low nibbles, 32 bytes of high pairs, 8 signed scales.
NEAP_MULTIVERSION
void q6_k(const Byte* block, float* y, std::size_t blocks) {
  for (std::size_t b = 0; b < blocks; ++b, block += 210, y += kSuper) {
    const float d = half_at(block + 208);
    for (int s = 0; s < 16; ++s) {
      const float scale = d * static_cast<float>(static_cast<std::int8_t>(block[192 + s]));
      const int half = s / 8, quarter = s % 8 / 2, first = 16 * (s % 2);
      const Byte* low = block + 64 * half + 32 * (quarter % 2) + first;
      const Byte* high = block + 128 + 32 * half + first;
      const int low_shift = 4 * (quarter / 2), high_shift = 2 * quarter;
      for (int l = 0; l < 16; ++l) {
        const int q = ((low[l] >> low_shift) & 15) | ((high[l] >> high_shift) & 3) << 4;
        y[16 * s + l] = scale * static_cast<float>(q - 32);
      }
    }
  }
}

// Safetensors may place a tensor at any byte: through an aligned buffer, a chunk at a time.
template <class Element, class Convert>
void plain(const Byte* from, float* to, std::size_t count, const Convert& convert) {
  std::array<Element, 1024> aligned;
  while (count > 0) {
    const std::size_t n = std::min(count, aligned.size());
    std::memcpy(aligned.data(), from, n * sizeof(Element));
    convert(aligned.data(), to, n);
    from += n * sizeof(Element);
    to += n;
    count -= n;
  }
}

void f32(const Byte* from, float* to, std::size_t count) { std::memcpy(to, from, 4 * count); }
void f16(const Byte* from, float* to, std::size_t count) {
  plain<Fp16>(from, to, count,
              [](const Fp16* x, float* y, std::size_t n) { fp16_to_float(x, y, n); });
}
void bf16(const Byte* from, float* to, std::size_t count) {
  plain<Bf16>(from, to, count,
              [](const Bf16* x, float* y, std::size_t n) { bf16_to_float(x, y, n); });
}
void f64(const Byte* from, float* to, std::size_t count) {
  plain<double>(from, to, count, [](const double* x, float* y, std::size_t n) {
    std::transform(x, x + n, y, [](double value) { return static_cast<float>(value); });
  });
}

using Decoder = void (*)(const Byte*, float*, std::size_t blocks);

Decoder decoder_for(DType type) {
  // clang-format off
  switch (type) {
    case DType::f64: return f64;
    case DType::f32: return f32;
    case DType::f16: return f16;
    case DType::bf16: return bf16;
    case DType::q4_0: return q4_0;
    case DType::q4_1: return q4_1;
    case DType::q5_0: return q5_0;
    case DType::q5_1: return q5_1;
    case DType::q8_0: return q8_0;
    case DType::q2_k: return q2_k;
    case DType::q3_k: return q3_k;
    case DType::q4_k: return q4_k;
    case DType::q5_k: return q5_k;
    case DType::q6_k: return q6_k;
    case DType::iq4_nl: return iq4_nl;
    case DType::mxfp4: return mxfp4;
    case DType::nvfp4: return nvfp4;
    case DType::f8_e4m3: case DType::f8_e5m2: case DType::i64: case DType::i32:
    case DType::i16: case DType::i8: case DType::u8: case DType::boolean: return nullptr;
  }
  // clang-format on
  return nullptr;
}

}  // namespace

bool can_dequantize(DType type) { return decoder_for(type) != nullptr; }

void dequantize_blocks(DType type, const std::byte* from, float* to, std::size_t count) {
  const Decoder decode = decoder_for(type);
  NEAP_CHECK(decode != nullptr && count % block_elements(type) == 0);
  if (count == 0) return;
  decode(reinterpret_cast<const Byte*>(from), to, count / block_elements(type));
}

}  // namespace neap
