// Words already encoded: natural text repeats itself, so most words are looked up instead of
// merged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "neap/tokenizer.h"

namespace neap {

// Bounded: takes no more words once full, and no long ones. Belongs to one thread.
class WordCache {
 public:
  static constexpr std::size_t kLongestWord = 128;  // bytes
  static constexpr std::size_t kMostWords = 1 << 17;

  WordCache() : slots_(1 << 10) {}

  // Null if there is no such word. What is found dies with the next insert.
  struct Found {
    const TokenId* ids = nullptr;
    std::size_t count = 0;
  };
  Found find(std::string_view word) const;
  // word: not in here yet.
  void insert(std::string_view word, std::span<const TokenId> ids);

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t text = 0, first = 0;  // offsets into texts_ and ids_
    std::uint16_t length = 0;           // 0: free
    std::uint16_t count = 0;
  };
  std::size_t slot_of(std::uint64_t hash, std::string_view word) const;
  void grow();

  std::vector<Slot> slots_;  // a power of two, at most half full
  std::size_t words_ = 0;
  std::string texts_;
  std::vector<TokenId> ids_;
};

}  // namespace neap
