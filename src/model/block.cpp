#include "model/block.h"

#include <algorithm>

#include "base/parallel.h"
#include "base/buffer.h"
#include "model/attention.h"
#include "model/elementwise.h"
#include "model/kv_cache.h"

namespace neap {
namespace {

// Rows whose intermediate results are alive at once: what the next step reads is still in a cache,
// memory does not grow with the number of windows, and yet every thread has something to do. No row
// depends on it.
std::size_t rows_at_once() {
  return std::max<std::size_t>(1024, 128 * static_cast<std::size_t>(thread_count()));
}

// The same for attention: whole windows.
std::size_t tokens_at_once(std::size_t length) {
  return std::max<std::size_t>(1, 2 * rows_at_once() / length) * length;
}

// row(r) for every row of `columns` values. Tiles are large enough to be worth waking a thread for:
// a generated token's few rows stay on this one.
void for_rows(std::size_t rows, std::size_t columns, const std::function<void(std::size_t)>& row) {
  const std::size_t tile_rows = std::max<std::size_t>(1, 32768 / columns);
  parallel_for((rows + tile_rows - 1) / tile_rows, [&](std::size_t tile) {
    const std::size_t end = std::min(rows, (tile + 1) * tile_rows);
    for (std::size_t r = tile * tile_rows; r < end; ++r) row(r);
  });
}

// piece(first, count) for consecutive pieces of at most `at_most` rows.
template <class Function>
void in_pieces(std::size_t rows, std::size_t at_most, const Function& piece) {
  for (std::size_t first = 0; first < rows; first += at_most) {
    piece(first, std::min(at_most, rows - first));
  }
}

void norm_rows(const ModelConfig& config, const std::vector<float>& weight,
               MatrixView<const float> x, MatrixView<float> h) {
  NEAP_CHECK(x.cols == weight.size() && h.cols == x.cols && h.rows == x.rows);
  for_rows(x.rows, x.cols, [&](std::size_t r) {
    rms_norm(x.row(r), weight.data(), static_cast<float>(config.norm_epsilon), x.cols, h.row(r));
  });
}

void add_linear(const Linear& linear, MatrixView<const float> input, MatrixView<float> x) {
  thread_local Buffer buffer;
  in_pieces(x.rows, rows_at_once(), [&](std::size_t first, std::size_t count) {
    const MatrixView<float> y(buffer.floats(count * x.cols), count, x.cols);
    linear.apply(input.row_range(first, count), y);
    for_rows(count, x.cols, [&](std::size_t r) { add(y.row(r), x.cols, x.row(first + r)); });
  });
}

// Everything behind the attention. Tokens do not see each other here.
void add_mlp_of(const ModelConfig& config, const Block& block, MatrixView<float> x) {
  const std::size_t intermediate = block.linear(Role::down).in();
  thread_local Buffer h_buffer, f_buffer;
  in_pieces(x.rows, rows_at_once(), [&](std::size_t first, std::size_t count) {
    const MatrixView<float> rows = x.row_range(first, count);
    const MatrixView<float> h(h_buffer.floats(count * x.cols), count, x.cols);
    const MatrixView<float> f(f_buffer.floats(count * intermediate), count, intermediate);
    mlp_input(config, block, rows, h);
    mlp_hidden(block, h, f);
    add_mlp(block, f, rows);
  });
}

}  // namespace

void attention_input(const ModelConfig& config, const Block& block, MatrixView<const float> x,
                     MatrixView<float> h) {
  norm_rows(config, block.input_norm, x, h);
}

void attention(const ModelConfig& config, const Block& block, const RopeTable& rope,
               Precision precision, std::size_t length, MatrixView<const float> h,
               MatrixView<float> a) {
  NEAP_CHECK(length > 0 && h.rows % length == 0 && h.rows == a.rows);
  const auto kv_heads = static_cast<std::size_t>(config.kv_heads);
  const auto head_dim = static_cast<std::size_t>(config.head_dim);
  const Operand type = precision == Precision::bf16 ? bf16_operand() : Operand::f32;
  const std::size_t capacity = KeyValues::round_up(length);
  thread_local Buffer key_buffer, value_buffer;
  in_pieces(h.rows, tokens_at_once(length), [&](std::size_t first, std::size_t count) {
    KeyValues cache{type, nullptr, nullptr, kv_heads, capacity, head_dim};
    const std::size_t bytes = cache.offset(count / length, 0, 0);
    cache.keys = key_buffer.bytes(bytes);
    cache.values = value_buffer.bytes(bytes);
    for (std::size_t i = 0; i < count / length * kv_heads; ++i) {
      const std::size_t begin = cache.offset(0, i, length), end = cache.offset(0, i + 1, 0);
      std::fill(cache.keys + begin, cache.keys + end, std::byte{});
      std::fill(cache.values + begin, cache.values + end, std::byte{});
    }
    attend(config, block, rope, cache, 0, length, h.row_range(first, count),
           a.row_range(first, count));
  });
}

void add_attention(const Block& block, MatrixView<const float> a, MatrixView<float> x) {
  add_linear(block.linear(Role::o), a, x);
}

void mlp_input(const ModelConfig& config, const Block& block, MatrixView<const float> x,
               MatrixView<float> h) {
  norm_rows(config, block.mlp_norm, x, h);
}

void mlp_hidden(const Block& block, MatrixView<const float> h, MatrixView<float> f) {
  thread_local Buffer gate_buffer;
  in_pieces(h.rows, rows_at_once(), [&](std::size_t first, std::size_t count) {
    const MatrixView<float> gate(gate_buffer.floats(count * f.cols), count, f.cols);
    block.linear(Role::gate).apply(h.row_range(first, count), gate);
    block.linear(Role::up).apply(h.row_range(first, count), f.row_range(first, count));
    for_rows(count, f.cols, [&](std::size_t r) {
      silu_multiply(gate.row(r), f.row(first + r), f.cols, f.row(first + r));
    });
  });
}

void add_mlp(const Block& block, MatrixView<const float> f, MatrixView<float> x) {
  add_linear(block.linear(Role::down), f, x);
}

void forward_block(const ModelConfig& config, const Block& block, const RopeTable& rope,
                   Precision precision, std::size_t length, MatrixView<float> x) {
  NEAP_CHECK(length > 0 && x.rows % length == 0);
  const std::size_t attended = block.linear(Role::o).in();
  thread_local Buffer h_buffer, a_buffer;
  in_pieces(x.rows, tokens_at_once(length), [&](std::size_t first, std::size_t count) {
    const MatrixView<float> rows = x.row_range(first, count);
    const MatrixView<float> h(h_buffer.floats(count * x.cols), count, x.cols);
    const MatrixView<float> a(a_buffer.floats(count * attended), count, attended);
    attention_input(config, block, rows, h);
    attention(config, block, rope, precision, length, h, a);
    add_attention(block, a, rows);
    add_mlp_of(config, block, rows);
  });
}

void forward_block_cached(const ModelConfig& config, const Block& block, const RopeTable& rope,
                          KvCache& cache, std::size_t new_tokens, MatrixView<float> x) {
  NEAP_CHECK(new_tokens > 0 && x.rows == cache.sequences() * new_tokens);
  const std::size_t attended = block.linear(Role::o).in();
  cache.reserve(cache.length() + new_tokens);
  thread_local Buffer h_buffer, a_buffer;
  const MatrixView<float> h(h_buffer.floats(x.rows * x.cols), x.rows, x.cols);
  const MatrixView<float> a(a_buffer.floats(x.rows * attended), x.rows, attended);
  attention_input(config, block, x, h);
  attend(config, block, rope, cache.layer(static_cast<std::size_t>(block.index)), cache.length(),
         new_tokens, h, a);
  add_attention(block, a, x);
  add_mlp_of(config, block, x);
}

}  // namespace neap
