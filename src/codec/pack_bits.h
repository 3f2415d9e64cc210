// Runs of small codes in 32-bit words, least significant bit first.
//
// dense:  one bit stream; code i is bits [i b, (i + 1) b) of it, whatever words that touches.
//         32 codes take exactly b words. compressed-tensors since 0.18.0 (its pull request 732,
//         2026), and GPTQ.
// sparse: floor(32 / b) codes per word, its upper bits zero. compressed-tensors before that.
//         The same as dense for 1, 2, 4 and 8 bits.
//
// Words lie little-endian in files, so the dense stream is also a stream of bytes in which 8 codes
// take exactly b bytes; this is what the code uses.
#pragma once

#include <cstddef>
#include <cstdint>

namespace neap {

enum class Packing { dense, sparse };

// Words that hold `count` codes of `bits` (1 .. 8) bits.
std::int64_t packed_words(std::int64_t count, int bits, Packing packing = Packing::dense);

// codes: count values, each < 2^bits. words: packed_words(count, bits) of them; bits past the last
// code become zero.
void pack_codes(const std::uint8_t* codes, std::size_t count, int bits, std::uint32_t* words);

// The inverse. `words` need not be aligned. Returns false if a bit that belongs to no code is set.
bool unpack_codes(const std::byte* words, std::size_t count, int bits, Packing packing,
                  std::uint8_t* codes);

}  // namespace neap
