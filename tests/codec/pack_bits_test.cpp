#include "codec/pack_bits.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace neap {
namespace {

std::vector<std::uint8_t> random_codes(std::size_t count, int bits) {
  std::mt19937 random(static_cast<std::uint32_t>(count * 8 + static_cast<std::size_t>(bits)));
  std::vector<std::uint8_t> codes(count);
  for (auto& code : codes) code = static_cast<std::uint8_t>(random() >> (32 - bits));
  return codes;
}

std::vector<std::uint32_t> packed(const std::vector<std::uint8_t>& codes, int bits) {
  std::vector<std::uint32_t> words(
      static_cast<std::size_t>(packed_words(static_cast<std::int64_t>(codes.size()), bits)),
      0xa5a5a5a5u);
  pack_codes(codes.data(), codes.size(), bits, words.data());
  return words;
}

const std::byte* bytes(const std::vector<std::uint32_t>& words) {
  return reinterpret_cast<const std::byte*>(words.data());
}

// The definition, one bit at a time.
std::vector<std::uint32_t> packed_bit_by_bit(const std::vector<std::uint8_t>& codes, int bits,
                                             std::size_t bits_per_word) {
  std::vector<std::uint32_t> words;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    for (std::size_t k = 0; k < static_cast<std::size_t>(bits); ++k) {
      const std::size_t at = i * static_cast<std::size_t>(bits) + k;
      if (at / bits_per_word >= words.size()) words.push_back(0);
      words.back() |= ((static_cast<std::uint32_t>(codes[i]) >> k) & 1u) << (at % bits_per_word);
    }
  }
  return words;
}

TEST(PackBits, ThirtyTwoCodesTakeAsManyWordsAsACodeHasBits) {
  for (int bits = 1; bits <= 8; ++bits) EXPECT_EQ(packed_words(32, bits), bits);
  EXPECT_EQ(packed_words(0, 3), 0);
  EXPECT_EQ(packed_words(33, 3), 4);
  EXPECT_EQ(packed_words(33, 3, Packing::sparse), 4);
  EXPECT_EQ(packed_words(32, 3, Packing::sparse), 4);
  EXPECT_EQ(packed_words(576, 3), 54);
  EXPECT_EQ(packed_words(576, 3, Packing::sparse), 58);
}

TEST(PackBits, DenseWordsAreTheBitStreamOfTheDefinition) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (std::size_t count = 0; count <= 100; ++count) {
      const auto codes = random_codes(count, bits);
      ASSERT_EQ(packed(codes, bits), packed_bit_by_bit(codes, bits, 32)) << bits << " " << count;
    }
  }
}

TEST(PackBits, UnpackInvertsPackAtEveryLength) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (std::size_t count = 0; count <= 100; ++count) {
      const auto codes = random_codes(count, bits);
      std::vector<std::uint8_t> back(count + 1, 77);
      ASSERT_TRUE(
          unpack_codes(bytes(packed(codes, bits)), count, bits, Packing::dense, back.data()));
      ASSERT_EQ(back[count], 77) << "wrote past the end";
      back.pop_back();
      ASSERT_EQ(back, codes) << bits << " " << count;
    }
  }
}

TEST(PackBits, SparseWordsAreReadAsTheOldDefinition) {
  for (int bits = 1; bits <= 8; ++bits) {
    const auto per_word = static_cast<std::size_t>(32 / bits * bits);
    for (std::size_t count = 1; count <= 100; ++count) {
      const auto codes = random_codes(count, bits);
      const auto words = packed_bit_by_bit(codes, bits, per_word);
      ASSERT_EQ(words.size(), static_cast<std::size_t>(packed_words(
                                  static_cast<std::int64_t>(count), bits, Packing::sparse)));
      std::vector<std::uint8_t> back(count);
      ASSERT_TRUE(unpack_codes(bytes(words), count, bits, Packing::sparse, back.data()));
      ASSERT_EQ(back, codes) << bits << " " << count;
    }
  }
}

TEST(PackBits, EveryBitOutsideTheCodesIsNoticedAndNoOther) {
  for (const Packing packing : {Packing::dense, Packing::sparse}) {
    for (int bits = 1; bits <= 8; ++bits) {
      const std::size_t count = 37;
      const std::size_t per_word =
          packing == Packing::dense ? 32 : static_cast<std::size_t>(32 / bits * bits);
      auto words = packed_bit_by_bit(std::vector<std::uint8_t>(count, 0), bits, per_word);
      const std::size_t used = count * static_cast<std::size_t>(bits);
      std::vector<std::uint8_t> back(count);
      for (std::size_t bit = 0; bit < 32 * words.size(); ++bit) {
        const std::size_t stream = bit / 32 * per_word + bit % 32;
        const bool belongs = bit % 32 < per_word && stream < used;
        words[bit / 32] ^= 1u << (bit % 32);
        EXPECT_EQ(unpack_codes(bytes(words), count, bits, packing, back.data()), belongs)
            << bits << " bit " << bit;
        words[bit / 32] ^= 1u << (bit % 32);
      }
    }
  }
}

}  // namespace
}  // namespace neap
