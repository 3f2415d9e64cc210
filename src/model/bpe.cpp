#include "model/bpe.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <functional>
#include <queue>

#include "model/utf8.h"
#include "neap/check.h"

namespace neap {
namespace {

constexpr char32_t kMetaspace = 0x2581;
// Up to here, looking for the least rank anew each time costs less than a heap.
constexpr std::size_t kShortWord = 32;

bool stands_for_itself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char32_t, 256> chars{};
  std::array<int, 0x144> bytes{};  // -1 where no byte is shown as that character

  Alphabet() {
    bytes.fill(-1);
    char32_t next = 0x100;  // the other bytes take the characters from here on
    for (int byte = 0; byte < 256; ++byte) {
      chars[static_cast<std::size_t>(byte)] =
          stands_for_itself(byte) ? static_cast<char32_t>(byte) : next++;
      bytes[chars[static_cast<std::size_t>(byte)]] = byte;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet table;
  return table;
}

std::uint64_t pair_key(TokenId left, TokenId right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

}  // namespace

char32_t char_of_byte(unsigned char byte) { return alphabet().chars[byte]; }

std::optional<unsigned char> byte_of_char(char32_t c) {
  if (c >= alphabet().bytes.size() || alphabet().bytes[c] < 0) return std::nullopt;
  return static_cast<unsigned char>(alphabet().bytes[c]);
}

std::size_t Vocabulary::Hash::operator()(std::string_view text) const {
  return std::hash<std::string_view>()(text);
}

bool Vocabulary::add(std::string text, TokenId id) {
  NEAP_CHECK(id >= 0 && id <= kMaxId);
  if (const auto known = find(text)) return *known == id;
  if (id < size() && used_[static_cast<std::size_t>(id)]) return false;
  if (id >= size()) {
    texts_.resize(static_cast<std::size_t>(id) + 1);
    used_.resize(texts_.size());
  }
  texts_[static_cast<std::size_t>(id)] = text;
  used_[static_cast<std::size_t>(id)] = true;
  ids_.emplace(std::move(text), id);
  return true;
}

std::optional<TokenId> Vocabulary::find(std::string_view text) const {
  const auto found = ids_.find(text);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string& Vocabulary::text(TokenId id) const {
  static const std::string none;
  return id >= 0 && id < size() ? texts_[static_cast<std::size_t>(id)] : none;
}

bool Vocabulary::has(TokenId id) const {
  return id >= 0 && id < size() && used_[static_cast<std::size_t>(id)];
}

Bpe::Bpe(std::shared_ptr<const Vocabulary> vocabulary, const std::vector<Merge>& merges,
         const BpeOptions& options)
    : vocabulary_(std::move(vocabulary)), options_(options) {
  const std::size_t slots = std::bit_ceil(2 * merges.size() + 2);
  shift_ = 64 - std::countr_zero(slots);
  slots_.resize(slots);
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    add_merge(merges[rank], static_cast<std::uint32_t>(rank));
  }
  for (std::size_t i = 0; i < small_.size(); ++i) {
    small_[i] = start_of(options_.byte_level ? char_of_byte(static_cast<unsigned char>(i))
                                             : static_cast<char32_t>(i));
  }
  separable_ = !options_.byte_level && !options_.ignore_merges &&
               start_of(kMetaspace).kind == Start::Kind::token &&
               std::none_of(merges.begin(), merges.end(),
                            [this](const Merge& merge) { return reaches_across_words(merge); });
}

void Bpe::add_merge(const Merge& merge, std::uint32_t rank) {
  const std::uint64_t pair = pair_key(merge.left, merge.right);
  std::size_t at = pair * 0x9E3779B97F4A7C15u >> shift_;
  while (slots_[at].rank != kNoRank && slots_[at].pair != pair) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = {pair, rank, merge.result};
}

const Bpe::Slot& Bpe::find(TokenId left, TokenId right) const {
  const std::uint64_t pair = pair_key(left, right);
  std::size_t at = pair * 0x9E3779B97F4A7C15u >> shift_;
  while (slots_[at].rank != kNoRank && slots_[at].pair != pair) at = (at + 1) & (slots_.size() - 1);
  return slots_[at];
}

bool Bpe::reaches_across_words(const Merge& merge) const {
  const std::string &left = vocabulary_->text(merge.left), &right = vocabulary_->text(merge.right);
  return !left.empty() && !right.empty() && code_point_at(right, 0).value == kMetaspace &&
         code_point_before(left, left.size()).value != kMetaspace;
}

Bpe::Start Bpe::start_of(char32_t c) const {
  Start start;
  std::string text;
  append_utf8(text, c);
  if (const auto id = vocabulary_->find(text)) {
    start.kind = Start::Kind::token;
    start.ids[start.count++] = *id;
    return start;
  }
  if (options_.byte_fallback) {
    start.kind = Start::Kind::bytes;
    for (const char byte : text) {
      char name[8];
      std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned char>(byte));
      const auto id = vocabulary_->find(name);
      if (!id) break;
      start.ids[start.count++] = *id;
    }
    if (start.count == text.size()) return start;
  }
  start.count = 0;
  start.kind = options_.unknown ? Start::Kind::unknown : Start::Kind::dropped;
  return start;
}

void Bpe::encode(std::string_view word, std::vector<TokenId>& ids, WordCache* cache) const {
  if (cache == nullptr) return encode_uncached(word, ids);
  const WordCache::Found found = cache->find(word);
  if (found.ids != nullptr) {
    ids.insert(ids.end(), found.ids, found.ids + found.count);
    return;
  }
  const std::size_t begin = ids.size();
  encode_uncached(word, ids);
  cache->insert(word, std::span(ids).subspan(begin));
}

void Bpe::encode_uncached(std::string_view word, std::vector<TokenId>& ids) const {
  if (options_.ignore_merges) {
    if (const auto id = whole_word(word)) return ids.push_back(*id);
  }
  const std::size_t begin = ids.size();
  append_starts(word, ids);
  ids.size() - begin <= kShortWord ? merge_short(ids, begin) : merge_long(ids, begin);
}

std::optional<TokenId> Bpe::whole_word(std::string_view word) const {
  if (!options_.byte_level) return vocabulary_->find(word);
  std::string shown;
  for (const char byte : word) append_utf8(shown, char_of_byte(static_cast<unsigned char>(byte)));
  return vocabulary_->find(shown);
}

void Bpe::append_starts(std::string_view word, std::vector<TokenId>& ids) const {
  bool pending = false;  // an unknown token, held back for those that follow it to join
  const auto append = [&](const Start& start) {
    switch (start.kind) {
      case Start::Kind::token:
        if (pending) ids.push_back(*options_.unknown);
        pending = false;
        ids.push_back(start.ids[0]);
        break;
      case Start::Kind::bytes:  // these overtake a pending one, as in `tokenizers`
        ids.insert(ids.end(), start.ids.begin(), start.ids.begin() + start.count);
        break;
      case Start::Kind::unknown:
        if (pending && !options_.fuse_unknown) ids.push_back(*options_.unknown);
        pending = true;
        break;
      case Start::Kind::dropped:
        break;
    }
  };
  for (std::size_t at = 0; at < word.size();) {
    const auto byte = static_cast<unsigned char>(word[at]);
    if (options_.byte_level || byte < 0x80) {
      append(small_[byte]);
      ++at;
    } else {
      const CodePoint c = code_point_at(word, at);
      append(c.value < small_.size() ? small_[c.value] : start_of(c.value));
      at += c.bytes;
    }
  }
  if (pending) ids.push_back(*options_.unknown);
}

void Bpe::merge_short(std::vector<TokenId>& ids, std::size_t begin) const {
  TokenId* const symbols = ids.data() + begin;
  std::size_t count = ids.size() - begin;
  if (count < 2) return;
  std::array<std::uint32_t, kShortWord> ranks;  // of the pair (i, i + 1)
  for (std::size_t i = 0; i + 1 < count; ++i) ranks[i] = find(symbols[i], symbols[i + 1]).rank;
  while (count > 1) {
    const auto* best = std::min_element(ranks.data(), ranks.data() + count - 1);  // leftmost
    if (*best == kNoRank) break;
    const auto at = static_cast<std::size_t>(best - ranks.data());
    symbols[at] = find(symbols[at], symbols[at + 1]).result;
    std::copy(symbols + at + 2, symbols + count, symbols + at + 1);
    std::copy(ranks.data() + at + 1, ranks.data() + count - 1, ranks.data() + at);
    --count;
    if (at > 0) ranks[at - 1] = find(symbols[at - 1], symbols[at]).rank;
    if (at + 1 < count) ranks[at] = find(symbols[at], symbols[at + 1]).rank;
  }
  ids.resize(begin + count);
}

void Bpe::merge_long(std::vector<TokenId>& ids, std::size_t begin) const {
  constexpr std::uint32_t kNone = 0xFFFFFFFF;
  TokenId* const symbols = ids.data() + begin;  // -1 once merged into the one before
  NEAP_CHECK(ids.size() - begin < kNone);
  const auto count = static_cast<std::uint32_t>(ids.size() - begin);
  std::vector<std::uint32_t> before(count), after(count);
  // Least rank first, then leftmost: rank in the high half, position in the low one.
  std::vector<std::uint64_t> entries;
  const auto entry = [&](std::uint32_t at) {
    const std::uint32_t rank =
        after[at] == kNone ? kNoRank : find(symbols[at], symbols[after[at]]).rank;
    return std::uint64_t{rank} << 32 | at;
  };
  const auto worth = [](std::uint64_t e) { return e >> 32 != kNoRank; };
  for (std::uint32_t i = 0; i < count; ++i) {
    before[i] = i == 0 ? kNone : i - 1;
    after[i] = i + 1 == count ? kNone : i + 1;
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    if (const std::uint64_t e = entry(i); worth(e)) entries.push_back(e);
  }
  std::priority_queue queue(std::greater<>{}, std::move(entries));
  while (!queue.empty()) {
    const std::uint64_t top = queue.top();
    queue.pop();
    const auto at = static_cast<std::uint32_t>(top);
    if (symbols[at] < 0 || entry(at) != top) continue;  // one of the two has changed since
    const std::uint32_t right = after[at];
    symbols[at] = find(symbols[at], symbols[right]).result;
    symbols[right] = -1;
    after[at] = after[right];
    if (after[at] != kNone) before[after[at]] = at;
    if (const std::uint64_t e = entry(at); worth(e)) queue.push(e);
    if (before[at] != kNone) {
      if (const std::uint64_t e = entry(before[at]); worth(e)) queue.push(e);
    }
  }
  ids.erase(std::remove(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end(), -1),
            ids.end());
}

}  // namespace neap
