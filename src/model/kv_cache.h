// Keys and values of the tokens so far, so that a new token costs one row and not a whole window.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/buffer.h"
#include "linalg/matmul.h"
#include "neap/model.h"

namespace neap {

KvType default_kv_type(Precision precision);
// Of `count` values of one head, without an int8 row's scale.
std::size_t kv_bytes(KvType type, std::size_t count);

// One layer's keys, or its values: rows of head_dim values.
struct KvRows {
  KvType type = KvType::f32;
  std::byte* data = nullptr;
  float* scales = nullptr;  // one per row, of int8 alone
  std::size_t head_dim = 0;

  // A row of numbers that are not all finite is NaN altogether in int8.
  void store(std::size_t row, const float* from) const;
  // Rows [row, row + count) as operands, where they lie if they lie as such, else decoded into `buffer`.
  const std::byte* load(std::size_t row, std::size_t count, Operand operand, Buffer& buffer) const;
};

// One layer's keys (rope applied) and values: (sequences, kv_heads, capacity) rows each. capacity is a
// multiple of kPositionStep; what lies beyond the last token is finite.
struct KeyValues {
  static constexpr std::size_t kPositionStep = 64;
  static std::size_t round_up(std::size_t positions) {
    return (positions + kPositionStep - 1) / kPositionStep * kPositionStep;
  }

  KvRows keys, values;
  std::size_t kv_heads = 0, capacity = 0;

  std::size_t row(std::size_t sequence, std::size_t kv_head, std::size_t position) const {
    return (sequence * kv_heads + kv_head) * capacity + position;
  }
};

// New tokens of one sequence: rows [row, row + count) of what is run, at positions start, start + 1 ...
struct Segment {
  std::size_t sequence = 0, row = 0, start = 0, count = 0;
};

// For sequences of any lengths, which the caller moves on once all layers have taken in the new tokens.
class KvCache {
 public:
  KvCache(const ModelConfig& config, KvType type, std::size_t sequences);

  std::size_t sequences() const { return lengths_.size(); }
  std::size_t length(std::size_t sequence) const { return lengths_[sequence]; }  // tokens so far
  void advance(std::size_t sequence, std::size_t tokens);
  // Forgets a sequence's tokens from `length` on; the memory stays.
  void truncate(std::size_t sequence, std::size_t length);

  // Makes room for `positions` tokens per sequence in every layer; at least doubles what it
  // outgrows. Views handed out before are void then.
  void reserve(std::size_t positions);
  KeyValues layer(std::size_t index);
  // Of one position's keys and values in one layer of one sequence.
  std::size_t position_bytes() const;

 private:
  struct Unmap {
    std::size_t bytes;
    void operator()(std::byte* memory) const;
  };
  using Memory = std::unique_ptr<std::byte, Unmap>;
  struct Layer {
    Memory keys, values, key_scales, value_scales;
  };

  // Room for `capacity` positions of row_bytes each, with what `from` holds.
  Memory moved(const Memory& from, std::size_t capacity, std::size_t row_bytes) const;

  KvType type_;
  std::size_t kv_heads_, head_dim_;
  std::vector<std::size_t> lengths_;
  std::size_t capacity_ = 0;
  std::vector<Layer> layers_;
};

}  // namespace neap
