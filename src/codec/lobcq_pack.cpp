#include "codec/lobcq_pack.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string>

#include "base/parallel.h"
#include "codec/pack_bits.h"

namespace neap {
namespace {

std::int64_t bytes_for(std::int64_t count, int bits) { return (count * bits + 7) / 8; }

template <class Body>
void for_each_row(std::int64_t rows, std::int64_t cols, const Body& body) {
  const std::int64_t tile = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / cols);
  parallel_for(static_cast<std::size_t>((rows + tile - 1) / tile), [&](std::size_t t) {
    const std::int64_t first = static_cast<std::int64_t>(t) * tile;
    for (std::int64_t r = first; r < std::min(rows, first + tile); ++r) body(r);
  });
}

// (rows, count) small numbers as rows of `row_bytes`, and back. What does not fill its row is 0.
std::vector<std::byte> pack_rows(const std::vector<std::uint8_t>& values, std::int64_t rows,
                                 std::int64_t count, int bits, std::int64_t row_bytes) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(rows * row_bytes));
  for_each_row(rows, count, [&](std::int64_t r) {
    std::vector<std::uint32_t> words(static_cast<std::size_t>(packed_words(count, bits)));
    pack_codes(values.data() + r * count, static_cast<std::size_t>(count), bits, words.data());
    std::memcpy(bytes.data() + r * row_bytes, words.data(),
                static_cast<std::size_t>(bytes_for(count, bits)));
  });
  return bytes;
}

std::vector<std::uint8_t> unpack_rows(const StoredTensor& tensor, MatrixExtent extent,
                                      std::int64_t count, int bits, std::int64_t row_bytes) {
  require_type(tensor, DType::u8);
  require_shape(tensor, {extent.rows, row_bytes});
  std::vector<std::uint8_t> values(static_cast<std::size_t>(extent.rows * count));
  for_each_row(extent.rows, count, [&](std::int64_t r) {
    // Whole words, so that all bits past the last value are seen.
    std::vector<std::byte> words(static_cast<std::size_t>((row_bytes + 3) / 4 * 4));
    std::memcpy(words.data(), tensor.bytes.data() + r * row_bytes,
                static_cast<std::size_t>(row_bytes));
    const auto tail = words.begin() + 4 * packed_words(count, bits);
    const bool clear =
        std::all_of(tail, words.end(), [](std::byte b) { return b == std::byte{0}; });
    if (!unpack_codes(words.data(), static_cast<std::size_t>(count), bits, Packing::dense,
                      values.data() + r * count) ||
        !clear) {
      refuse(tensor, "row " + std::to_string(r) + " has bits outside its values", "zero", "others");
    }
  });
  return values;
}

void check_scales(const StoredTensor& tensor, const std::vector<E4m3>& scales) {
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const bool nan = (scales[i] & ~kE4m3Sign) == kE4m3NaN;
    if (!nan && scales[i] != kE4m3Sign) continue;
    refuse(tensor, "scale " + std::to_string(i) + " cannot be used", "a finite number, not -0",
           nan ? "NaN" : "-0");
  }
}

void check_arrays_of_zeros(const LobcqModule& module, const LobcqTensor& tensor) {
  const LobcqLayout& layout = tensor.layout;
  const std::int64_t arrays = layout.arrays(tensor.cols), blocks = layout.blocks(tensor.cols);
  const std::int64_t blocks_of_array = layout.block_array / layout.block;
  const auto zero = [](std::span<const std::uint8_t> row, std::int64_t array, std::int64_t width) {
    const auto first = static_cast<std::size_t>(array * width);
    const auto part =
        row.subspan(first, std::min(static_cast<std::size_t>(width), row.size() - first));
    return std::all_of(part.begin(), part.end(), [](std::uint8_t v) { return v == 0; });
  };
  for_each_row(tensor.rows, tensor.cols, [&](std::int64_t r) {
    const std::span codes(tensor.codes.data() + r * tensor.cols,
                          static_cast<std::size_t>(tensor.cols));
    const std::span selectors(tensor.selectors.data() + r * blocks,
                              static_cast<std::size_t>(blocks));
    for (std::int64_t a = 0; a < arrays; ++a) {
      if (tensor.scales[static_cast<std::size_t>(r * arrays + a)] != 0) continue;
      const std::string place =
          "row " + std::to_string(r) + ", array " + std::to_string(a) + " has scale 0";
      if (!zero(codes, a, layout.block_array)) refuse(module.packed, place, "codes 0", "others");
      if (!zero(selectors, a, blocks_of_array))
        refuse(module.selector, place, "selectors 0", "others");
    }
  });
}

template <class T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

}  // namespace

std::int64_t packed_code_bytes(const LobcqLayout& layout, std::int64_t cols) {
  return layout.blocks(cols) * layout.block / 2;
}

std::int64_t packed_selector_bytes(const LobcqLayout& layout, std::int64_t cols) {
  return bytes_for(layout.blocks(cols), layout.selector_bits());
}

LobcqTensor decode_lobcq(const LobcqModule& module, const LobcqLayout& layout) {
  NEAP_CHECK(layout.valid());
  const MatrixExtent extent = read_matrix_extent(module.shape);
  const std::int64_t cols = extent.cols, arrays = layout.arrays(cols);
  LobcqTensor tensor;
  tensor.layout = layout;
  tensor.rows = extent.rows;
  tensor.cols = cols;
  require_type(module.scale, DType::f8_e4m3);
  require_shape(module.scale, {extent.rows, arrays});
  tensor.scales.resize(module.scale.bytes.size());
  std::memcpy(tensor.scales.data(), module.scale.bytes.data(), tensor.scales.size());
  check_scales(module.scale, tensor.scales);

  require_type(module.global_scale, DType::f32);
  require_shape(module.global_scale, {1});
  std::memcpy(&tensor.tensor_scale, module.global_scale.bytes.data(), 4);
  if (!(tensor.tensor_scale >= kSmallestTensorScale &&
        tensor.tensor_scale <= kLargestTensorScale)) {
    refuse(module.global_scale, "the tensor's scale cannot be used", "a number in [2^-60, 2^60]",
           std::to_string(tensor.tensor_scale));
  }
  // Both before either is allocated: what is larger than its file is found by then.
  require_shape(module.packed, {extent.rows, packed_code_bytes(layout, cols)});
  require_shape(module.selector, {extent.rows, packed_selector_bytes(layout, cols)});
  tensor.codes = unpack_rows(module.packed, extent, cols, 4, packed_code_bytes(layout, cols));
  tensor.selectors = unpack_rows(module.selector, extent, layout.blocks(cols),
                                 layout.selector_bits(), packed_selector_bytes(layout, cols));
  check_arrays_of_zeros(module, tensor);
  return tensor;
}

std::vector<PartInfo> lobcq_parts(const LobcqLayout& layout, std::int64_t rows, std::int64_t cols) {
  return {{".weight_packed", DType::u8, {rows, packed_code_bytes(layout, cols)}},
          {".weight_selector", DType::u8, {rows, packed_selector_bytes(layout, cols)}},
          {".weight_scale", DType::f8_e4m3, {rows, layout.arrays(cols)}},
          {".weight_global_scale", DType::f32, {1}},
          {".weight_shape", DType::i64, {2}}};
}

std::vector<std::vector<std::byte>> encode_lobcq_parts(const LobcqTensor& tensor) {
  check_invariants(tensor);
  const LobcqLayout& layout = tensor.layout;
  return {
      pack_rows(tensor.codes, tensor.rows, tensor.cols, 4, packed_code_bytes(layout, tensor.cols)),
      pack_rows(tensor.selectors, tensor.rows, layout.blocks(tensor.cols), layout.selector_bits(),
                packed_selector_bytes(layout, tensor.cols)),
      bytes_of(tensor.scales), bytes_of(std::vector{tensor.tensor_scale}),
      bytes_of(std::vector{tensor.rows, tensor.cols})};
}

Codebooks decode_codebooks(const StoredTensor& tensor, const LobcqLayout& layout) {
  require_type(tensor, DType::i8);
  require_shape(tensor, {layout.codebooks, kCodebookEntries});
  Codebooks codebooks(static_cast<std::size_t>(layout.codebooks));
  std::memcpy(codebooks.data(), tensor.bytes.data(), tensor.bytes.size());
  for (std::size_t c = 0; c < codebooks.size(); ++c) {
    const Codebook& book = codebooks[c];
    const std::string place = "codebook " + std::to_string(c);
    if (!std::is_sorted(book.begin(), book.end()))
      refuse(tensor, place, "ascending entries", "others");
    if (book.front() >= -kLargestEntry && book.back() <= kLargestEntry) continue;
    refuse(tensor, place, "entries in [-31, 31]",
           std::to_string(book.front() < -kLargestEntry ? book.front() : book.back()));
  }
  return codebooks;
}

std::vector<std::byte> encode_codebooks(const Codebooks& codebooks) {
  std::vector<std::byte> bytes(codebooks.size() * sizeof(Codebook));
  std::memcpy(bytes.data(), codebooks.data(), bytes.size());
  return bytes;
}

}  // namespace neap
