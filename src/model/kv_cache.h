// Keys and values of the tokens so far, so that a new token costs one row and not a whole window.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "linalg/matmul.h"
#include "neap/model.h"

namespace neap {

// One layer's keys (rope applied) and values: (sequences, kv_heads, capacity, head_dim) each,
// operands of the attention's products. capacity is a multiple of kPositionStep; what lies beyond
// the last token is finite.
struct KeyValues {
  static constexpr std::size_t kPositionStep = 64;
  static std::size_t round_up(std::size_t positions) {
    return (positions + kPositionStep - 1) / kPositionStep * kPositionStep;
  }

  Operand type = Operand::f32;
  std::byte* keys = nullptr;
  std::byte* values = nullptr;
  std::size_t kv_heads = 0, capacity = 0, head_dim = 0;

  // Where a position's row begins, counted in bytes from `keys` or `values`.
  std::size_t offset(std::size_t sequence, std::size_t kv_head, std::size_t position) const {
    return ((sequence * kv_heads + kv_head) * capacity + position) * head_dim * operand_bytes(type);
  }
};

// For sequences that all have the same length, which the caller moves on once all layers have taken
// in the new tokens.
class KvCache {
 public:
  KvCache(const ModelConfig& config, Precision precision, std::size_t sequences,
          std::size_t positions = 0);

  std::size_t sequences() const { return sequences_; }
  std::size_t length() const { return length_; }  // tokens of each sequence so far
  void advance(std::size_t tokens);

  // Makes room for `positions` tokens per sequence in every layer; at least doubles what it
  // outgrows. Views handed out before are void then.
  void reserve(std::size_t positions);
  KeyValues layer(std::size_t index);

 private:
  struct Unmap {
    std::size_t bytes;
    void operator()(std::byte* memory) const;
  };
  using Memory = std::unique_ptr<std::byte, Unmap>;
  struct Layer {
    Memory keys, values;
  };

  Memory allocate(std::size_t capacity) const;
  Memory moved(const Memory& from, std::size_t capacity) const;

  Operand type_;
  std::size_t sequences_, kv_heads_, head_dim_;
  std::size_t length_ = 0, capacity_ = 0;
  std::vector<Layer> layers_;
};

}  // namespace neap
