#include "model/kv_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>

#include "base/half.h"
#include "base/multiversion.h"
#include "base/parallel.h"
#include "model/vector16.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::pair<KvType, const char*> kKvTypes[] = {
    {KvType::f32, "f32"}, {KvType::bf16, "bf16"}, {KvType::int8, "int8"}};

// The largest magnitude; NaN unless all are finite.
NEAP_MULTIVERSION
float largest_magnitude(const float* x, std::size_t count) {
  Vec most{}, zero{};  // v - v is 0 for what is finite, else NaN
  const auto take = [&](Vec v) __attribute__((always_inline)) {
    most = max(max(v, -v), most);
    zero += v - v;
  };
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) take(load(x + i));
  if (i < count) take(load_part(x + i, count - i));
  return largest(most) + sum(zero);
}

// To nearest even, for magnitudes up to 127 after the scale.
NEAP_MULTIVERSION
void round_to_int8(const float* x, float inverse_scale, std::size_t count, std::int8_t* to) {
  for (std::size_t i = 0; i < count; ++i) {
    constexpr float kRound = 12582912.f;  // 1.5 * 2^23: adding it leaves no bits below one
    to[i] = static_cast<std::int8_t>((x[i] * inverse_scale + kRound) - kRound);
  }
}

NEAP_MULTIVERSION
void widen_int8(const std::int8_t* from, float scale, std::size_t count, float* to) {
  for (std::size_t i = 0; i < count; ++i) to[i] = static_cast<float>(from[i]) * scale;
}

void store_int8(const float* from, std::size_t count, std::int8_t* to, float& scale) {
  const float largest = largest_magnitude(from, count);
  scale = largest / 127;
  if (scale > 0) {
    round_to_int8(from, 1 / scale, count, to);
  } else {  // all zero (or too small to have a scale), or NaN
    std::memset(to, 0, count);
  }
}

bool lies_as_operand(KvType type, Operand operand) {
  return (type == KvType::f32 && operand == Operand::f32) ||
         (type == KvType::bf16 && operand == Operand::bf16);
}

// Fresh pages: zero, as KeyValues asks, and not there until they are reached. Large ones where the
// system has them: each head's stream is short, and a step walks through all of them.
std::byte* map_pages(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  madvise(memory, bytes, MADV_HUGEPAGE);
  return static_cast<std::byte*>(memory);
}

}  // namespace

KvType kv_type_from_name(const std::string& name) {
  for (const auto& [type, known] : kKvTypes) {
    if (name == known) return type;
  }
  throw Error(ErrorCode::argument, "no such type of keys and values",
              {.expected = "f32, bf16 or int8", .found = "'" + name + "'"});
}

std::string name_of(KvType type) {
  for (const auto& [known, name] : kKvTypes) {
    if (type == known) return name;
  }
  return "?";
}

KvType default_kv_type(Precision precision) {
  return precision == Precision::bf16 ? KvType::bf16 : KvType::f32;
}

std::size_t kv_bytes(KvType type, std::size_t count) {
  return count * (type == KvType::f32 ? sizeof(float) : type == KvType::bf16 ? sizeof(Bf16) : 1);
}

void KvRows::store(std::size_t row, const float* from) const {
  std::byte* to = data + row * kv_bytes(type, head_dim);
  if (type == KvType::f32) {
    std::memcpy(to, from, head_dim * sizeof(float));
  } else if (type == KvType::bf16) {
    float_to_bf16(from, reinterpret_cast<Bf16*>(to), head_dim);
  } else {
    store_int8(from, head_dim, reinterpret_cast<std::int8_t*>(to), scales[row]);
  }
}

const std::byte* KvRows::load(std::size_t row, std::size_t count, Operand operand,
                              Buffer& buffer) const {
  const std::byte* from = data + row * kv_bytes(type, head_dim);
  if (lies_as_operand(type, operand)) return from;
  const std::size_t bytes = count * head_dim * operand_bytes(operand);
  std::byte* to = buffer.bytes(bytes + head_dim * sizeof(float));
  auto* wide = reinterpret_cast<float*>(to + bytes);  // one row, beyond the operands
  for (std::size_t r = 0; r < count; ++r) {
    const std::byte* packed = from + r * kv_bytes(type, head_dim);
    if (type == KvType::int8) {
      widen_int8(reinterpret_cast<const std::int8_t*>(packed), scales[row + r], head_dim, wide);
    } else if (type == KvType::bf16) {
      const auto* halves = reinterpret_cast<const Bf16*>(packed);
      for (std::size_t i = 0; i < head_dim; ++i) wide[i] = bf16_to_float(halves[i]);
    } else {
      std::memcpy(wide, packed, head_dim * sizeof(float));
    }
    to_operand(operand, wide, to + r * head_dim * operand_bytes(operand), head_dim);
  }
  return to;
}

KvCache::KvCache(const ModelConfig& config, KvType type, std::size_t sequences)
    : type_(type),
      kv_heads_(static_cast<std::size_t>(config.kv_heads)),
      head_dim_(static_cast<std::size_t>(config.head_dim)),
      lengths_(sequences),
      layers_(static_cast<std::size_t>(config.layers)) {}

void KvCache::advance(std::size_t sequence, std::size_t tokens) {
  lengths_.at(sequence) += tokens;
  NEAP_CHECK(lengths_[sequence] <= capacity_);
}

void KvCache::truncate(std::size_t sequence, std::size_t length) {
  lengths_.at(sequence) = std::min(lengths_[sequence], length);
}

void KvCache::reserve(std::size_t positions) {
  if (positions <= capacity_) return;
  const std::size_t capacity = KeyValues::round_up(std::max(positions, 2 * capacity_));
  const std::size_t row_bytes = kv_bytes(type_, head_dim_);
  for (Layer& layer : layers_) {
    layer.keys = moved(layer.keys, capacity, row_bytes);
    layer.values = moved(layer.values, capacity, row_bytes);
    if (type_ != KvType::int8) continue;
    layer.key_scales = moved(layer.key_scales, capacity, sizeof(float));
    layer.value_scales = moved(layer.value_scales, capacity, sizeof(float));
  }
  capacity_ = capacity;
}

KeyValues KvCache::layer(std::size_t index) {
  const Layer& memory = layers_.at(index);
  const auto rows = [&](const Memory& data, const Memory& scales) {
    return KvRows{type_, data.get(), reinterpret_cast<float*>(scales.get()), head_dim_};
  };
  return {rows(memory.keys, memory.key_scales), rows(memory.values, memory.value_scales), kv_heads_,
          capacity_};
}

std::size_t KvCache::position_bytes() const {
  const std::size_t scale = type_ == KvType::int8 ? sizeof(float) : 0;
  return 2 * kv_heads_ * (kv_bytes(type_, head_dim_) + scale);
}

void KvCache::Unmap::operator()(std::byte* memory) const { munmap(memory, bytes); }

KvCache::Memory KvCache::moved(const Memory& from, std::size_t capacity,
                               std::size_t row_bytes) const {
  const std::size_t bytes = sequences() * kv_heads_ * capacity * row_bytes;
  Memory to(map_pages(bytes), {bytes});
  if (!from) return to;
  parallel_for(sequences() * kv_heads_, [&](std::size_t i) {
    std::memcpy(to.get() + i * capacity * row_bytes, from.get() + i * capacity_ * row_bytes,
                lengths_[i / kv_heads_] * row_bytes);
  });
  return to;
}

}  // namespace neap
