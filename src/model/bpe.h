// Byte pair encoding over a fixed vocabulary: Sennrich, Haddow, Birch, "Neural machine translation
// of rare words with subword units", ACL 2016; the byte-level form of GPT-2 and the byte fallback
// of SentencePiece, with the order of merges that the `tokenizers` package has.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/bpe_cache.h"
#include "neap/tokenizer.h"

namespace neap {

// GPT-2's alphabet: each byte as a printable character, and back.
char32_t char_of_byte(unsigned char byte);
std::optional<unsigned char> byte_of_char(char32_t c);

// Tokens by id and by text.
class Vocabulary {
 public:
  // Ids beyond this are refused: a damaged file should not ask for gigabytes.
  static constexpr TokenId kMaxId = (1 << 22) - 1;

  // False if the id is taken by another text or the text by another id.
  bool add(std::string text, TokenId id);
  std::optional<TokenId> find(std::string_view text) const;
  const std::string& text(TokenId id) const;  // empty for a hole and beyond the end
  bool has(TokenId id) const;
  TokenId size() const {
    return static_cast<TokenId>(texts_.size());
  }  // one more than the largest id

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const;
  };
  std::vector<std::string> texts_;
  std::vector<bool> used_;
  std::unordered_map<std::string, TokenId, Hash, std::equal_to<>> ids_;
};

struct Merge {
  TokenId left, right, result;
};

struct BpeOptions {
  bool byte_level = false;         // words are bytes in GPT-2's alphabet, else characters
  std::optional<TokenId> unknown;  // for a character without token; nothing: it is dropped
  bool fuse_unknown = false;       // unknown characters in a row give one token
  bool byte_fallback =
      false;  // a character without token as "<0x41>" ..., if all its bytes have one
  bool ignore_merges = false;  // a word that is a token as a whole is that token
};

class Bpe {
 public:
  // merges: first merged first; where a pair stands twice, the later place counts.
  Bpe(std::shared_ptr<const Vocabulary> vocabulary, const std::vector<Merge>& merges,
      const BpeOptions& options);

  // Appends the tokens of one word (valid UTF-8, or its bytes). Linearithmic in its length,
  // whatever it holds. cache: null, or one that only this object has used. Safe to use from several
  // threads, each with its own cache.
  void encode(std::string_view word, std::vector<TokenId>& ids, WordCache* cache) const;

  // Whether words may be cut before a U+2581 that follows another character without any change,
  // since no merge reaches across: then a document that nothing else cuts is words after all.
  bool separable() const { return separable_; }

 private:
  // Open addressing, linear probing; empty where result < 0.
  struct Slot {
    std::uint64_t pair = 0;
    std::uint32_t rank = kNoRank;
    TokenId result = -1;
  };
  // What a character becomes before any merge: nothing, its token, its bytes' tokens, or unknown.
  struct Start {
    enum class Kind : std::uint8_t { dropped, token, bytes, unknown };
    Kind kind = Kind::dropped;
    std::uint8_t count = 0;
    std::array<TokenId, 4> ids{};
  };
  static constexpr std::uint32_t kNoRank = 0xFFFFFFFF;

  void add_merge(const Merge& merge, std::uint32_t rank);
  const Slot& find(TokenId left, TokenId right) const;  // rank kNoRank if there is no such merge
  bool reaches_across_words(const Merge& merge) const;
  Start start_of(char32_t c) const;
  void encode_uncached(std::string_view word, std::vector<TokenId>& ids) const;
  std::optional<TokenId> whole_word(std::string_view word) const;
  void append_starts(std::string_view word, std::vector<TokenId>& ids) const;
  void merge_short(std::vector<TokenId>& ids, std::size_t begin) const;
  void merge_long(std::vector<TokenId>& ids, std::size_t begin) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  BpeOptions options_;
  std::vector<Slot> slots_;  // a power of two, at most half full
  int shift_ = 0;
  bool separable_ = false;
  std::array<Start, 256> small_;  // of bytes, or of characters below 256
};

}  // namespace neap
