#include "model/block.h"

#include <algorithm>
#include <cstring>

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

// Keys or values of whole windows, for one pass.
KvRows window_rows(const ModelConfig& config, KvType type, std::size_t rows, Buffer& data,
                   Buffer& scales) {
  const auto head_dim = static_cast<std::size_t>(config.head_dim);
  return {type, data.bytes(rows * kv_bytes(type, head_dim)),
          type == KvType::int8 ? scales.floats(rows) : nullptr, head_dim};
}

// What lies behind a window's last token, up to its capacity.
void clear_beyond(const KvRows& rows, std::size_t length, std::size_t capacity, std::size_t windows) {
  const std::size_t row_bytes = kv_bytes(rows.type, rows.head_dim);
  for (std::size_t w = 0; w < windows; ++w) {
    const std::size_t begin = w * capacity + length, count = capacity - length;
    std::memset(rows.data + begin * row_bytes, 0, count * row_bytes);
    if (rows.scales) std::fill_n(rows.scales + begin, count, 0.f);
  }
}

}  // namespace

AttentionTypes::AttentionTypes(Precision precision, std::optional<KvType> kept_in)
    : operand(precision == Precision::bf16 ? bf16_operand() : Operand::f32),
      kept(kept_in.value_or(default_kv_type(precision))) {}

void attention_input(const ModelConfig& config, const Block& block, MatrixView<const float> x,
                     MatrixView<float> h) {
  norm_rows(config, block.input_norm, x, h);
}

void attention(const ModelConfig& config, const Block& block, const RopeTable& rope,
               AttentionTypes types, std::size_t length, MatrixView<const float> h,
               MatrixView<float> a) {
  NEAP_CHECK(length > 0 && h.rows % length == 0 && h.rows == a.rows);
  thread_local Buffer keys, values, key_scales, value_scales;
  thread_local std::vector<Segment> segments;
  in_pieces(h.rows, tokens_at_once(length), [&](std::size_t first, std::size_t count) {
    const std::size_t windows = count / length, capacity = KeyValues::round_up(length);
    const auto kv_heads = static_cast<std::size_t>(config.kv_heads);
    const std::size_t lines = windows * kv_heads * capacity;
    const KeyValues cache{window_rows(config, types.kept, lines, keys, key_scales),
                          window_rows(config, types.kept, lines, values, value_scales), kv_heads,
                          capacity};
    clear_beyond(cache.keys, length, capacity, windows * kv_heads);
    clear_beyond(cache.values, length, capacity, windows * kv_heads);
    segments.clear();
    for (std::size_t w = 0; w < windows; ++w) segments.push_back({w, w * length, 0, length});
    attend(config, block, rope, cache, types.operand, segments, h.row_range(first, count),
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
    const LinearCall calls[] = {{&block.linear(Role::gate), gate},
                                {&block.linear(Role::up), f.row_range(first, count)}};
    apply_all(calls, h.row_range(first, count));
    for_rows(count, f.cols, [&](std::size_t r) {
      silu_multiply(gate.row(r), f.row(first + r), f.cols, f.row(first + r));
    });
  });
}

void add_mlp(const Block& block, MatrixView<const float> f, MatrixView<float> x) {
  add_linear(block.linear(Role::down), f, x);
}

void forward_block(const ModelConfig& config, const Block& block, const RopeTable& rope,
                   AttentionTypes types, std::size_t length, MatrixView<float> x) {
  NEAP_CHECK(length > 0 && x.rows % length == 0);
  const std::size_t attended = block.linear(Role::o).in();
  thread_local Buffer h_buffer, a_buffer;
  in_pieces(x.rows, tokens_at_once(length), [&](std::size_t first, std::size_t count) {
    const MatrixView<float> rows = x.row_range(first, count);
    const MatrixView<float> h(h_buffer.floats(count * x.cols), count, x.cols);
    const MatrixView<float> a(a_buffer.floats(count * attended), count, attended);
    attention_input(config, block, rows, h);
    attention(config, block, rope, types, length, h, a);
    add_attention(block, a, rows);
    add_mlp_of(config, block, rows);
  });
}

void forward_block_cached(const ModelConfig& config, const Block& block, const RopeTable& rope,
                          Operand operand, KvCache& cache, std::span<const Segment> segments,
                          MatrixView<float> x) {
  const std::size_t attended = block.linear(Role::o).in();
  thread_local Buffer h_buffer, a_buffer;
  const MatrixView<float> h(h_buffer.floats(x.rows * x.cols), x.rows, x.cols);
  const MatrixView<float> a(a_buffer.floats(x.rows * attended), x.rows, attended);
  attention_input(config, block, x, h);
  attend(config, block, rope, cache.layer(static_cast<std::size_t>(block.index)), operand, segments,
         h, a);
  add_attention(block, a, x);
  add_mlp_of(config, block, x);
}

}  // namespace neap
