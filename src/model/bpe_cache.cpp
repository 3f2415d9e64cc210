#include "model/bpe_cache.h"

#include <xxhash.h>

#include <utility>

namespace neap {

std::size_t WordCache::slot_of(std::uint64_t hash, std::string_view word) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = hash & mask;
  while (slots_[at].length != 0) {
    const Slot& slot = slots_[at];
    if (slot.hash == hash && std::string_view(texts_).substr(slot.text, slot.length) == word) break;
    at = (at + 1) & mask;
  }
  return at;
}

WordCache::Found WordCache::find(std::string_view word) const {
  if (word.empty() || word.size() > kLongestWord) return {};
  const Slot& slot = slots_[slot_of(XXH3_64bits(word.data(), word.size()), word)];
  if (slot.length == 0) return {};
  return {ids_.data() + slot.first, slot.count};
}

void WordCache::insert(std::string_view word, std::span<const TokenId> ids) {
  if (word.empty() || word.size() > kLongestWord || ids.empty() || words_ >= kMostWords) return;
  if (2 * (words_ + 1) > slots_.size()) grow();
  const std::uint64_t hash = XXH3_64bits(word.data(), word.size());
  slots_[slot_of(hash, word)] = {
      hash, static_cast<std::uint32_t>(texts_.size()), static_cast<std::uint32_t>(ids_.size()),
      static_cast<std::uint16_t>(word.size()), static_cast<std::uint16_t>(ids.size())};
  texts_ += word;
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  ++words_;
}

void WordCache::grow() {
  const std::vector<Slot> before = std::exchange(slots_, std::vector<Slot>(2 * slots_.size()));
  const std::size_t mask = slots_.size() - 1;
  for (const Slot& slot : before) {
    if (slot.length == 0) continue;
    std::size_t at = slot.hash & mask;
    while (slots_[at].length != 0) at = (at + 1) & mask;
    slots_[at] = slot;
  }
}

}  // namespace neap
