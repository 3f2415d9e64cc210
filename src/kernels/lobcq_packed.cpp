#include "kernels/lobcq_packed.h"

#include <algorithm>
#include <cstring>

#include "base/parallel.h"

namespace neap {
namespace {

constexpr std::size_t kMostWords = 9;  // arrays of 128, blocks of 2, 16 codebooks

// How a row's selectors lie in its header words.
struct SelectorPlaces {
  std::size_t bits, per_word, words;

  explicit SelectorPlaces(const LobcqLayout& layout)
      : bits(static_cast<std::size_t>(layout.selector_bits())), per_word(32 / bits) {
    const auto selectors = static_cast<std::size_t>(layout.block_array / layout.block);
    const std::size_t full = (selectors + per_word - 1) / per_word;
    const std::size_t last = (selectors - (full - 1) * per_word) * bits;
    words = last <= 24 ? full : full + 1;
  }
  std::size_t word(std::size_t selector) const { return selector / per_word; }
  std::size_t bit(std::size_t selector) const { return selector % per_word * bits; }
};

LobcqShape make_shape(const LobcqLayout& layout, std::int64_t cols, const Codebooks& codebooks) {
  check_codebooks(layout, codebooks);
  const SelectorPlaces places(layout);
  LobcqShape shape{};
  shape.arrays = static_cast<std::size_t>(layout.arrays(cols));
  shape.block_array = static_cast<std::size_t>(layout.block_array);
  shape.words = places.words;
  shape.array_bytes = kVectorBytes * (places.words + shape.block_array / 8);
  shape.codebooks = codebooks.size();
  shape.usual = layout.block_array == 64 && layout.block == 8 && layout.codebooks <= 8;
  for (std::size_t i = 0; i < sizeof shape.table; ++i) {
    const Codebook& book = codebooks[i / kCodebookEntries % codebooks.size()];
    shape.table[i] = static_cast<std::uint8_t>(book[i % kCodebookEntries] + kEntryOffset);
  }
  for (std::size_t group = 0; group < shape.block_array / 4; ++group) {
    for (std::size_t byte = 0; byte < 4; ++byte) {
      const std::size_t selector = (4 * group + byte) / static_cast<std::size_t>(layout.block);
      shape.word[group] = static_cast<std::uint8_t>(places.word(selector));
      const std::size_t bit = places.bit(selector);
      shape.shift[group][byte] = static_cast<std::uint8_t>((bit + 60) % 64);
      shape.shift[group][4 + byte] = static_cast<std::uint8_t>((bit + 32 + 60) % 64);
    }
  }
  return shape;
}

// At most eight codes, a byte each, 0 for those that are missing.
std::uint64_t load_codes(const std::uint8_t* codes, std::size_t count) {
  std::uint64_t eight = 0;
  if (count >= 8) {
    std::memcpy(&eight, codes, 8);
  } else {
    std::memcpy(&eight, codes, count);
  }
  return eight;
}

}  // namespace

PackedLobcq::PackedLobcq(const LobcqTensor& tensor, const Codebooks& codebooks)
    : rows_(static_cast<std::size_t>(tensor.rows)),
      cols_(static_cast<std::size_t>(tensor.cols)),
      layout_(tensor.layout),
      tensor_scale_(tensor.tensor_scale),
      shape_(make_shape(tensor.layout, tensor.cols, codebooks)),
      memory_(bytes()) {
  parallel_for(panels(), [&](std::size_t index) { pack(tensor, index); });
}

void PackedLobcq::pack(const LobcqTensor& tensor, std::size_t panel) {
  const SelectorPlaces places(layout_);
  const auto block = static_cast<std::size_t>(layout_.block);
  const auto blocks = static_cast<std::size_t>(layout_.blocks(tensor.cols));
  std::uint8_t* to = data() + panel * shape_.arrays * shape_.array_bytes;
  for (std::size_t lane = 0; lane < std::min(kPanelRows, rows_ - panel * kPanelRows); ++lane) {
    const std::size_t row = panel * kPanelRows + lane;
    for (std::size_t a = 0; a < shape_.arrays; ++a) {
      const std::size_t first = a * shape_.block_array;
      const std::size_t last = std::min(cols_, first + shape_.block_array);
      std::uint8_t* header = to + a * shape_.array_bytes + 4 * lane;
      std::uint8_t* codes = header + places.words * kVectorBytes;
      std::uint32_t words[kMostWords] = {};
      for (std::size_t b = first / block; b * block < last; ++b) {
        const std::size_t s = b - first / block;
        words[places.word(s)] |= std::uint32_t{tensor.selectors[row * blocks + b]} << places.bit(s);
      }
      words[places.words - 1] |= std::uint32_t{tensor.scales[row * shape_.arrays + a]} << 24;
      for (std::size_t w = 0; w < places.words; ++w)
        std::memcpy(header + w * kVectorBytes, &words[w], 4);
      for (std::size_t c = first; c < last; c += 8) {
        const std::uint64_t eight = load_codes(tensor.codes.data() + row * cols_ + c, last - c);
        const auto bytes = static_cast<std::uint32_t>(eight | eight >> 28);
        std::memcpy(codes + (c - first) / 8 * kVectorBytes, &bytes, sizeof bytes);
      }
    }
  }
}

}  // namespace neap
