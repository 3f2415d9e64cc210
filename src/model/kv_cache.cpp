#include "model/kv_cache.h"

#include <sys/mman.h>

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

void KvCache::Unmap::operator()(std::byte* memory) const { munmap(memory, bytes); }

// Fresh pages: zero, as KeyValues asks, and not there until they are reached. Large ones where the
// system has them: each head's stream is short, and a step walks through all of them.
KvCache::Memory KvCache::allocate(std::size_t capacity) const {
  const std::size_t bytes = std::max<std::size_t>(
      1, sequences_ * kv_heads_ * capacity * head_dim_ * operand_bytes(type_));
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  madvise(memory, bytes, MADV_HUGEPAGE);
  return Memory(static_cast<std::byte*>(memory), {bytes});
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
