// Block layouts: ggml-common.h of llama.cpp. This file is compiled without contraction into fused multiply-adds:
// one rounding per operation, as in the reference.
#include "codec/gguf_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "base/iq4_nl.h"
#include "base/parallel.h"
#include "codec/gguf_super_blocks.h"
#include "codec/group_int.h"

namespace neap {
namespace {

// One row at a time, which begins at its first block.
struct Row {
  const std::uint8_t* codes;
  const float* scales;
  const float* minima;
  const std::int8_t* sub_scales;
  const std::uint8_t* sub_minima;
};

template <class T>
const T* part_of(const std::vector<T>& values, std::int64_t first) {
  return values.empty() ? nullptr : values.data() + first;
}

Row row_of(const GgufTensor& t, std::int64_t r) {
  const std::int64_t blocks = t.cols / static_cast<std::int64_t>(block_elements(t.layout.type));
  const std::int64_t subs = sub_group(t.layout) == 0 ? 0 : t.cols / sub_group(t.layout);
  return {t.codes.data() + r * t.cols, t.scales.data() + r * blocks, part_of(t.minima, r * blocks),
          part_of(t.sub_scales, r * subs), part_of(t.sub_minima, r * subs)};
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

// row.codes: those of the block.
void put_block(const GgufLayout& layout, const Row& row, std::int64_t block, std::uint8_t* to) {
  if (sub_group(layout) > 0) {
    const std::int64_t subs = static_cast<std::int64_t>(block_elements(layout.type)) / sub_group(layout);
    return put_super_block(layout.type,
                           {row.codes, row.scales[block], row.minima ? row.minima[block] : 0, row.sub_scales + subs * block,
                            row.sub_minima ? row.sub_minima + subs * block : nullptr},
                           to);
  }
  to = put_half(row.scales[block], to);
  if (row.minima) to = put_half(row.minima[block], to);
  if (layout.type == DType::q8_0) {
    for (int j = 0; j < 32; ++j) to[j] = static_cast<std::uint8_t>(row.codes[j] ^ 0x80);  // code - 128
    return;
  }
  if (code_bits(layout) == 5) to = put_fifth_bits(row.codes, to);
  put_nibbles(row.codes, to);
}

// put_block's reverse behind the scale.
void take_codes(DType type, const std::uint8_t* from, std::uint8_t* codes) {
  if (type == DType::q8_0) {
    for (int j = 0; j < 32; ++j) codes[j] = static_cast<std::uint8_t>(from[j] ^ 0x80);
    return;
  }
  for (int j = 0; j < 16; ++j) codes[j] = from[j] & 15, codes[j + 16] = from[j] >> 4;
}

void check_sub_scales(const GgufTensor& t) {
  const std::int64_t group = sub_group(t.layout);
  const auto subs = static_cast<std::size_t>(group == 0 ? 0 : t.rows * t.cols / group);
  const auto range = sub_scale_range(t.layout);
  const auto within = [&](int low) { return [low, high = range.second](int s) { return s >= low && s <= high; }; };
  NEAP_CHECK(t.sub_scales.size() == subs && t.sub_minima.size() == (has_minima(t.layout) ? subs : 0));
  NEAP_CHECK(std::all_of(t.sub_scales.begin(), t.sub_scales.end(), within(range.first)));
  NEAP_CHECK(std::all_of(t.sub_minima.begin(), t.sub_minima.end(), within(0)));
}

void check_invariants(const GgufTensor& t) {
  const auto block = static_cast<std::int64_t>(block_elements(t.layout.type));
  NEAP_CHECK(code_bits(t.layout) > 0 && t.rows > 0 && t.cols > 0 && t.cols % block == 0);
  const auto blocks = static_cast<std::size_t>(t.rows * t.cols / block);
  const auto values = static_cast<std::size_t>(t.rows * t.cols);
  NEAP_CHECK(t.codes.size() == values && t.scales.size() == blocks);
  NEAP_CHECK(t.minima.size() == (has_minima(t.layout) ? blocks : 0));
  check_sub_scales(t);
  const int bits = code_bits(t.layout);
  NEAP_CHECK(std::all_of(t.codes.begin(), t.codes.end(), [&](int code) { return code >> bits == 0; }));
  for (const auto* numbers : {&t.scales, &t.minima}) {
    NEAP_CHECK(std::all_of(numbers->begin(), numbers->end(),
                           [](float v) { return std::isfinite(v) && exact_in(v, DType::f16); }));
  }
}

void dequantize_row(const GgufTensor& t, std::int64_t r, float* out) {
  const Row row = row_of(t, r);
  const auto block = static_cast<std::int64_t>(block_elements(t.layout.type));
  const std::int64_t group = sub_group(t.layout);
  const int middle = 1 << (code_bits(t.layout) - 1);
  for (std::int64_t c = 0; c < t.cols; ++c) {
    const float d = row.sub_scales ? row.scales[c / block] * static_cast<float>(row.sub_scales[c / group]) : row.scales[c / block];
    const int code = row.codes[c];
    if (t.layout.type == DType::iq4_nl) {
      out[c] = d * static_cast<float>(kIq4NlTable[static_cast<std::size_t>(code)]);
    } else if (row.sub_minima) {
      out[c] = d * static_cast<float>(code) - row.minima[c / block] * static_cast<float>(row.sub_minima[c / group]);
    } else if (row.minima) {
      out[c] = d * static_cast<float>(code) + row.minima[c / block];
    } else {
      out[c] = d * static_cast<float>(code - middle);
    }
  }
}

}  // namespace

int code_bits(const GgufLayout& layout) {
  switch (layout.type) {
    case DType::q2_k: return 2;
    case DType::q3_k: return 3;
    case DType::q4_0:
    case DType::q4_1:
    case DType::q4_k:
    case DType::iq4_nl: return 4;
    case DType::q5_0:
    case DType::q5_1:
    case DType::q5_k: return 5;
    case DType::q6_k: return 6;
    case DType::q8_0: return 8;
    default: return 0;
  }
}

bool has_minima(const GgufLayout& layout) {
  switch (layout.type) {
    case DType::q4_1:
    case DType::q5_1:
    case DType::q2_k:
    case DType::q4_k:
    case DType::q5_k: return true;
    default: return false;
  }
}

std::int64_t sub_group(const GgufLayout& layout) {
  switch (layout.type) {
    case DType::q2_k:
    case DType::q3_k:
    case DType::q6_k: return 16;
    case DType::q4_k:
    case DType::q5_k: return 32;
    default: return 0;
  }
}

std::pair<int, int> sub_scale_range(const GgufLayout& layout) {
  switch (layout.type) {
    case DType::q2_k: return {0, 15};
    case DType::q3_k: return {-32, 31};
    case DType::q4_k:
    case DType::q5_k: return {0, 63};
    case DType::q6_k: return {-128, 127};
    default: return {0, 0};
  }
}

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

GgufTensor decode_gguf_blocks(const GgufLayout& layout, std::span<const std::byte> bytes, std::int64_t rows, std::int64_t cols) {
  NEAP_CHECK(layout.type == DType::q4_0 || layout.type == DType::q8_0);
  constexpr std::size_t kBlock = 32;
  const auto row_blocks = static_cast<std::size_t>(cols) / kBlock, size = block_bytes(layout.type);
  const std::size_t blocks = static_cast<std::size_t>(rows) * row_blocks;
  NEAP_CHECK(row_blocks * kBlock == static_cast<std::size_t>(cols) && bytes.size() == blocks * size);
  GgufTensor tensor{layout, rows, cols, std::vector<std::uint8_t>(blocks * kBlock), std::vector<float>(blocks), {}, {}, {}};
  parallel_for(static_cast<std::size_t>(rows), [&](std::size_t r) {
    for (std::size_t b = r * row_blocks; b < (r + 1) * row_blocks; ++b) {
      const auto* from = reinterpret_cast<const std::uint8_t*>(bytes.data() + b * size);
      Fp16 scale;
      std::memcpy(&scale, from, sizeof scale);
      tensor.scales[b] = fp16_to_float(scale);
      take_codes(layout.type, from + sizeof scale, tensor.codes.data() + b * kBlock);
    }
  });
  return tensor;
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
