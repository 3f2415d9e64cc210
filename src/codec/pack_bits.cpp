#include "codec/pack_bits.h"

#include <array>
#include <bit>
#include <cstring>

#include "neap/check.h"

namespace neap {
namespace {

static_assert(std::endian::native == std::endian::little, "words are used as the file's bytes");

// 8 codes in the bytes of a word to 8 codes in its lowest 8 b bits: neighbours are joined in pairs
// of bytes, then of 16-bit halves, then of 32-bit halves.
template <int b>
std::uint64_t squeeze(std::uint64_t x) {
  x = (x & 0x00ff00ff00ff00ffu) | ((x & 0xff00ff00ff00ff00u) >> (8 - b));
  x = (x & 0x0000ffff0000ffffu) | ((x & 0xffff0000ffff0000u) >> (16 - 2 * b));
  return (x & 0xffffffffu) | ((x >> 32) << (4 * b));
}

template <int b>
std::uint64_t spread(std::uint64_t x) {
  constexpr std::uint64_t k4 = (std::uint64_t{1} << (4 * b)) - 1;
  constexpr std::uint64_t k2 = ((std::uint64_t{1} << (2 * b)) - 1) * 0x0000000100000001u;
  constexpr std::uint64_t k1 = ((std::uint64_t{1} << b) - 1) * 0x0001000100010001u;
  x = (x & k4) | ((x >> (4 * b)) & k4) << 32;
  x = (x & k2) | ((x >> (2 * b)) & k2) << 16;
  return (x & k1) | ((x >> b) & k1) << 8;
}

template <int b>
void pack_dense(const std::uint8_t* codes, std::size_t count, std::byte* bytes) {
  for (; count > 0;) {
    const std::size_t n = count < 8 ? count : 8;
    std::uint64_t x = 0;
    std::memcpy(&x, codes, n);
    x = squeeze<b>(x);
    std::memcpy(bytes, &x, (n * b + 7) / 8);
    codes += n, bytes += b, count -= n;
  }
}

template <int b>
void unpack_dense(const std::byte* bytes, std::size_t count, std::uint8_t* codes) {
  const auto step = [&](std::size_t size, std::size_t n) {
    std::uint64_t x = 0;
    std::memcpy(&x, bytes, size);
    x = spread<b>(x);
    std::memcpy(codes, &x, n);
    codes += n, bytes += b, count -= n;
  };
  while (count * b >= 64) step(8, 8);  // whole words, of which the upper bits are not its codes'
  while (count >= 8) step(b, 8);
  if (count > 0) step((count * b + 7) / 8, count);
}

std::uint32_t load_word(const std::byte* words, std::size_t index) {
  std::uint32_t word;
  std::memcpy(&word, words + 4 * index, 4);
  return word;
}

bool unpack_sparse(const std::byte* words, std::size_t count, int bits, std::uint8_t* codes) {
  const auto per_word = static_cast<std::size_t>(32 / bits);
  const std::uint32_t mask = (1u << bits) - 1;
  std::uint64_t stray = 0;
  for (std::size_t w = 0; w * per_word < count; ++w) {
    std::uint64_t word = load_word(words, w);
    for (std::size_t i = w * per_word; i < count && i < (w + 1) * per_word; ++i) {
      codes[i] = static_cast<std::uint8_t>(word & mask);
      word >>= bits;
    }
    stray |= word;
  }
  return stray == 0;
}

// Of the dense form, only the last word can hold bits of no code.
bool tail_is_clear(const std::byte* words, std::size_t count, int bits) {
  const std::size_t used = count * static_cast<std::size_t>(bits);
  return used % 32 == 0 || (load_word(words, used / 32) >> (used % 32)) == 0;
}

using Pack = void (*)(const std::uint8_t*, std::size_t, std::byte*);
using Unpack = void (*)(const std::byte*, std::size_t, std::uint8_t*);
constexpr std::array<Pack, 9> kPack = {nullptr,       pack_dense<1>, pack_dense<2>,
                                       pack_dense<3>, pack_dense<4>, pack_dense<5>,
                                       pack_dense<6>, pack_dense<7>, pack_dense<8>};
constexpr std::array<Unpack, 9> kUnpack = {nullptr,         unpack_dense<1>, unpack_dense<2>,
                                           unpack_dense<3>, unpack_dense<4>, unpack_dense<5>,
                                           unpack_dense<6>, unpack_dense<7>, unpack_dense<8>};

}  // namespace

std::int64_t packed_words(std::int64_t count, int bits, Packing packing) {
  NEAP_CHECK(bits >= 1 && bits <= 8 && count >= 0);
  if (packing == Packing::dense) return (count * bits + 31) / 32;
  const std::int64_t per_word = 32 / bits;
  return (count + per_word - 1) / per_word;
}

void pack_codes(const std::uint8_t* codes, std::size_t count, int bits, std::uint32_t* words) {
  NEAP_CHECK(bits >= 1 && bits <= 8);
  if (count == 0) return;
  words[packed_words(static_cast<std::int64_t>(count), bits) - 1] = 0;
  kPack[static_cast<std::size_t>(bits)](codes, count, reinterpret_cast<std::byte*>(words));
}

bool unpack_codes(const std::byte* words, std::size_t count, int bits, Packing packing,
                  std::uint8_t* codes) {
  NEAP_CHECK(bits >= 1 && bits <= 8);
  if (packing == Packing::sparse && 32 % bits != 0) return unpack_sparse(words, count, bits, codes);
  kUnpack[static_cast<std::size_t>(bits)](words, count, codes);
  return tail_is_clear(words, count, bits);
}

}  // namespace neap
