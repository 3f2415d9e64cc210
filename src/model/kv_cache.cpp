#include "model/kv_cache.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "base/parallel.h"

namespace neap {

KvCache::KvCache(const ModelConfig& config, Precision precision, std::size_t sequences,
                 std::size_t positions)
    : type_(precision == Precision::bf16 ? bf16_operand() : Operand::f32),
      sequences_(sequences),
      kv_heads_(static_cast<std::size_t>(config.kv_heads)),
      head_dim_(static_cast<std::size_t>(config.head_dim)),
      layers_(static_cast<std::size_t>(config.layers)) {
  reserve(positions);
}

void KvCache::advance(std::size_t tokens) {
  length_ += tokens;
  NEAP_CHECK(length_ <= capacity_);
}

void KvCache::reserve(std::size_t positions) {
  if (positions <= capacity_) return;
  const std::size_t capacity = KeyValues::round_up(std::max(positions, 2 * capacity_));
  for (Layer& layer : layers_) {
    layer.keys = moved(layer.keys, capacity);
    layer.values = moved(layer.values, capacity);
  }
  capacity_ = capacity;
}

KeyValues KvCache::layer(std::size_t index) {
  const Layer& memory = layers_.at(index);
  return {type_, memory.keys.get(), memory.values.get(), kv_heads_, capacity_, head_dim_};
}

// Zero, as KeyValues asks; calloc leaves pages that are never reached untouched.
KvCache::Memory KvCache::allocate(std::size_t capacity) const {
  void* memory = std::calloc(sequences_ * kv_heads_ * capacity, head_dim_ * operand_bytes(type_));
  if (memory == nullptr) throw std::bad_alloc();
  return Memory(static_cast<std::byte*>(memory));
}

KvCache::Memory KvCache::moved(const Memory& from, std::size_t capacity) const {
  Memory to = allocate(capacity);
  const std::size_t row = head_dim_ * operand_bytes(type_);
  if (length_ == 0) return to;
  parallel_for(sequences_ * kv_heads_, [&](std::size_t i) {
    std::memcpy(to.get() + i * capacity * row, from.get() + i * capacity_ * row, length_ * row);
  });
  return to;
}

}  // namespace neap
