#include "codec/gguf_super_blocks.h"

#include <cstring>

#include "base/half.h"
#include "neap/check.h"

namespace neap {
namespace {

constexpr int kElements = 256;

using Byte = std::uint8_t;

Byte low_bits(int value, int mask) { return static_cast<Byte>(value & mask); }

void put_half(float value, Byte* to) {
  const Fp16 bits = float_to_fp16(value);
  std::memcpy(to, &bits, sizeof bits);
}

// Two bits of each code; of a half of 128, codes that lie 32 apart share a byte. shift: the lowest of them.
void put_pairs(const Byte* codes, int shift, Byte* to) {
  for (int e = 0; e < kElements; ++e) {
    to[32 * (e / 128) + e % 32] |= static_cast<Byte>(((codes[e] >> shift) & 3) << 2 * (e % 128 / 32));
  }
}

// One bit of each code: those that lie 32 apart share a byte.
void put_bits(const Byte* codes, int shift, Byte* to) {
  for (int e = 0; e < kElements; ++e) to[e % 32] |= static_cast<Byte>(((codes[e] >> shift) & 1) << (e / 32));
}

void put_q2_k(const SuperBlock& block, Byte* to) {
  for (int s = 0; s < 16; ++s) to[s] = static_cast<Byte>(low_bits(block.sub_scales[s], 15) | block.sub_minima[s] << 4);
  put_pairs(block.codes, 0, to + 16);
  put_half(block.scale, to + 80);
  put_half(block.minimum, to + 82);
}

// Sixteen 6-bit scales, 32 added: low nibbles in the first 8 bytes, the two high bits in the last 4.
void put_q3_k(const SuperBlock& block, Byte* to) {
  put_bits(block.codes, 2, to);
  put_pairs(block.codes, 0, to + 32);
  Byte* scales = to + 96;
  for (int s = 0; s < 16; ++s) {
    const int scale = block.sub_scales[s] + 32;
    scales[s % 8] |= static_cast<Byte>(low_bits(scale, 15) << 4 * (s / 8));
    scales[8 + s % 4] |= static_cast<Byte>((scale >> 4) << 2 * (s / 4));
  }
  put_half(block.scale, to + 108);
}

// Eight pairs of 6 bits in 12 bytes: the first four plain, the last four with their low nibbles in bytes 8 to 11 and
// their high bits on top of the first ones.
void put_scales_and_minima(const SuperBlock& block, Byte* to) {
  for (int s = 0; s < 8; ++s) {
    const int scale = block.sub_scales[s], minimum = block.sub_minima[s];
    if (s < 4) {
      to[s] |= static_cast<Byte>(scale);
      to[s + 4] |= static_cast<Byte>(minimum);
    } else {
      to[s + 4] |= static_cast<Byte>(low_bits(scale, 15) | low_bits(minimum, 15) << 4);
      to[s - 4] |= static_cast<Byte>((scale >> 4) << 6);
      to[s] |= static_cast<Byte>((minimum >> 4) << 6);
    }
  }
}

// Four low bits of each code; codes that lie 32 apart share a byte.
void put_nibbles(const Byte* codes, Byte* to) {
  for (int e = 0; e < kElements; ++e) {
    to[32 * (e / 64) + e % 32] |= static_cast<Byte>(low_bits(codes[e], 15) << 4 * (e % 64 / 32));
  }
}

void put_q4_k(const SuperBlock& block, Byte* to) {
  put_half(block.scale, to);
  put_half(block.minimum, to + 2);
  put_scales_and_minima(block, to + 4);
  put_nibbles(block.codes, to + 16);
}

void put_q5_k(const SuperBlock& block, Byte* to) {
  put_half(block.scale, to);
  put_half(block.minimum, to + 2);
  put_scales_and_minima(block, to + 4);
  put_bits(block.codes, 4, to + 16);
  put_nibbles(block.codes, to + 48);
}

// Of a half of 128, low nibbles of codes that lie 64 apart share a byte.
void put_q6_k(const SuperBlock& block, Byte* to) {
  for (int e = 0; e < kElements; ++e) {
    const int half = e / 128, quarter = e % 128 / 32;
    to[64 * half + 32 * (quarter % 2) + e % 32] |= static_cast<Byte>(low_bits(block.codes[e], 15) << 4 * (quarter / 2));
  }
  put_pairs(block.codes, 4, to + 128);
  std::memcpy(to + 192, block.sub_scales, 16);
  put_half(block.scale, to + 208);
}

}  // namespace

void put_super_block(DType type, const SuperBlock& block, std::uint8_t* to) {
  std::memset(to, 0, block_bytes(type));
  switch (type) {
    case DType::q2_k: return put_q2_k(block, to);
    case DType::q3_k: return put_q3_k(block, to);
    case DType::q4_k: return put_q4_k(block, to);
    case DType::q5_k: return put_q5_k(block, to);
    case DType::q6_k: return put_q6_k(block, to);
    default: NEAP_CHECK(!"a type with super-blocks");
  }
}

}  // namespace neap
