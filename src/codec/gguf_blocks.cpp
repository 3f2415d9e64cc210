// Block layouts: ggml-common.h of llama.cpp. This file is compiled without contraction into fused multiply-adds:
// one rounding per operation, as in the reference.
#include "codec/gguf_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "base/iq4_nl.h"
#include "base/parallel.h"
#include "codec/group_int.h"

namespace neap {
namespace {

constexpr std::int64_t kSub = 16;  // elements under one sub-scale of Q6_K

// One row at a time, which begins at its first block.
struct Row {
  const std::uint8_t* codes;
  const float* scales;
  const float* minima;
  const std::int8_t* sub_scales;
};

Row row_of(const GgufTensor& t, std::int64_t r) {
  const std::int64_t blocks = t.cols / static_cast<std::int64_t>(block_elements(t.layout.type));
  return {t.codes.data() + r * t.cols, t.scales.data() + r * blocks,
          t.minima.empty() ? nullptr : t.minima.data() + r * blocks,
          t.sub_scales.empty() ? nullptr : t.sub_scales.data() + r * (t.cols / kSub)};
}

std::uint8_t* put_half(float value, std::uint8_t* to) {
  const Fp16 bits = float_to_fp16(value);
  std::memcpy(to, &bits, sizeof bits);
  return to + sizeof bits;
}

// Elements j and j + 16 share a byte.
void put_nibbles(const std::uint8_t* codes, std::uint8_t* to) {
  for (int j = 0; j < 16; ++j) to[j] = static_cast<std::uint8_t>((codes[j] & 15) | (codes[j + 16] & 15) << 4);
}

std::uint8_t* put_fifth_bits(const std::uint8_t* codes, std::uint8_t* to) {
  std::uint32_t high = 0;
  for (int e = 0; e < 32; ++e) high |= static_cast<std::uint32_t>(codes[e] >> 4) << e;
  std::memcpy(to, &high, sizeof high);
  return to + sizeof high;
}

void put_q6_k(const Row& row, std::int64_t block, std::uint8_t* to) {
  std::memset(to, 0, 208);
  for (int e = 0; e < 256; ++e) {
    const int half = e / 128, quarter = e % 128 / 32, l = e % 32, code = row.codes[e];
    to[64 * half + 32 * (quarter % 2) + l] |= static_cast<std::uint8_t>((code & 15) << 4 * (quarter / 2));
    to[128 + 32 * half + l] |= static_cast<std::uint8_t>((code >> 4) << 2 * quarter);
  }
  std::memcpy(to + 192, row.sub_scales + 16 * block, 16);
  put_half(row.scales[block], to + 208);
}

// row.codes: those of the block.
void put_block(const GgufLayout& layout, const Row& row, std::int64_t block, std::uint8_t* to) {
  if (layout.type == DType::q6_k) return put_q6_k(row, block, to);
  to = put_half(row.scales[block], to);
  if (row.minima) to = put_half(row.minima[block], to);
  if (layout.type == DType::q8_0) {
    for (int j = 0; j < 32; ++j) to[j] = static_cast<std::uint8_t>(row.codes[j] ^ 0x80);  // code - 128
    return;
  }
  if (code_bits(layout) == 5) to = put_fifth_bits(row.codes, to);
  put_nibbles(row.codes, to);
}

void check_invariants(const GgufTensor& t) {
  const auto block = static_cast<std::int64_t>(block_elements(t.layout.type));
  NEAP_CHECK(is_gguf_block(t.layout.type) && t.rows > 0 && t.cols > 0 && t.cols % block == 0);
  const auto blocks = static_cast<std::size_t>(t.rows * t.cols / block);
  const auto values = static_cast<std::size_t>(t.rows * t.cols);
  NEAP_CHECK(t.codes.size() == values && t.scales.size() == blocks);
  NEAP_CHECK(t.minima.size() == (has_minima(t.layout) ? blocks : 0));
  NEAP_CHECK(t.sub_scales.size() == (t.layout.type == DType::q6_k ? values / kSub : 0));
  const int bits = code_bits(t.layout);
  NEAP_CHECK(std::all_of(t.codes.begin(), t.codes.end(), [&](int code) { return code >> bits == 0; }));
  for (const auto* numbers : {&t.scales, &t.minima}) {
    NEAP_CHECK(std::all_of(numbers->begin(), numbers->end(),
                           [](float v) { return std::isfinite(v) && exact_in(v, DType::f16); }));
  }
}

void dequantize_row(const GgufTensor& t, std::int64_t r, float* out) {
  const Row row = row_of(t, r);
  const std::int64_t block = static_cast<std::int64_t>(block_elements(t.layout.type));
  const int middle = 1 << (code_bits(t.layout) - 1);
  for (std::int64_t c = 0; c < t.cols; ++c) {
    const float d = row.scales[c / block];
    const int code = row.codes[c];
    if (t.layout.type == DType::iq4_nl) {
      out[c] = d * static_cast<float>(kIq4NlTable[static_cast<std::size_t>(code)]);
    } else if (row.minima) {
      out[c] = d * static_cast<float>(code) + row.minima[c / block];
    } else {
      const float scale = row.sub_scales ? d * static_cast<float>(row.sub_scales[c / kSub]) : d;
      out[c] = scale * static_cast<float>(code - middle);
    }
  }
}

}  // namespace

bool is_gguf_block(DType type) {
  switch (type) {
    case DType::q4_0:
    case DType::q4_1:
    case DType::q5_0:
    case DType::q5_1:
    case DType::q8_0:
    case DType::iq4_nl:
    case DType::q6_k: return true;
    default: return false;
  }
}

int code_bits(const GgufLayout& layout) {
  switch (layout.type) {
    case DType::q4_0:
    case DType::iq4_nl:
    case DType::q4_1: return 4;
    case DType::q5_0:
    case DType::q5_1: return 5;
    case DType::q6_k: return 6;
    default: return 8;
  }
}

bool has_minima(const GgufLayout& layout) { return layout.type == DType::q4_1 || layout.type == DType::q5_1; }

std::vector<std::byte> encode_gguf_blocks(const GgufTensor& tensor) {
  check_invariants(tensor);
  const auto block = static_cast<std::int64_t>(block_elements(tensor.layout.type));
  const auto bytes = static_cast<std::int64_t>(block_bytes(tensor.layout.type));
  const std::int64_t blocks = tensor.cols / block;
  std::vector<std::byte> encoded(static_cast<std::size_t>(tensor.rows * blocks * bytes));
  auto* out = reinterpret_cast<std::uint8_t*>(encoded.data());
  parallel_for(static_cast<std::size_t>(tensor.rows), [&](std::size_t r) {
    Row row = row_of(tensor, static_cast<std::int64_t>(r));
    for (std::int64_t b = 0; b < blocks; ++b, row.codes += block) {
      put_block(tensor.layout, row, b, out + (static_cast<std::int64_t>(r) * blocks + b) * bytes);
    }
  });
  return encoded;
}

void dequantize(const GgufTensor& tensor, std::int64_t first, std::int64_t count, MatrixView<float> out) {
  NEAP_CHECK(first >= 0 && count >= 0 && first + count <= tensor.rows);
  NEAP_CHECK(out.rows == static_cast<std::size_t>(count) && out.cols == static_cast<std::size_t>(tensor.cols));
  parallel_for(static_cast<std::size_t>(count), [&](std::size_t r) {
    dequantize_row(tensor, first + static_cast<std::int64_t>(r), out.row(r));
  });
}

double bits_per_weight(const GgufLayout& layout, std::int64_t, std::int64_t) {
  return 8.0 * static_cast<double>(block_bytes(layout.type)) / static_cast<double>(block_elements(layout.type));
}

}  // namespace neap
