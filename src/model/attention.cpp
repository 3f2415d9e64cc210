#include "model/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <vector>

#include "base/parallel.h"
#include "base/buffer.h"
#include "model/attention_step.h"
#include "model/elementwise.h"

namespace neap {
namespace {

// A tile's scores (rows x keys, fp32) and weights stay in a core's L2.
constexpr std::size_t kTileRows = 192;  // of queries: one per token and query head of a group
constexpr std::size_t kTileKeys = 512;
constexpr std::size_t kRowStep = 32;  // heights of a tile, so that few products are compiled
static_assert(kTileKeys % KeyValues::kPositionStep == 0);

std::size_t round_up(std::size_t count, std::size_t step) {
  return (count + step - 1) / step * step;
}

// One call's shapes and operands.
struct Attention {
  const ModelConfig& config;
  const Block& block;
  const RopeTable& rope;
  const KeyValues& cache;
  std::size_t start, length;
  MatrixView<const float> q, k, v;
  MatrixView<float> a;

  std::size_t head_dim() const { return cache.head_dim; }
  std::size_t kv_heads() const { return cache.kv_heads; }
  // Query heads that share a kv head.
  std::size_t group() const { return static_cast<std::size_t>(config.heads) / cache.kv_heads; }
  std::size_t sequences() const { return q.rows / length; }
  // The first position that `position` sees.
  std::size_t first_visible(std::size_t position) const {
    const auto window = static_cast<std::size_t>(block.switches.window);
    return window == 0 || position < window ? 0 : position - window + 1;
  }

  // Norm and rope of one head of one token, as the block has them.
  void prepare(const float* from, const std::vector<float>& norm, std::size_t position,
               float* to) const {
    if (norm.empty()) {
      std::copy(from, from + head_dim(), to);
    } else {
      rms_norm(from, norm.data(), static_cast<float>(config.norm_epsilon), head_dim(), to);
    }
    if (block.switches.rope) {
      rotate(rope.cosine.row(position), rope.sine.row(position), head_dim() / 2, to);
    }
  }

  // A query, scaled for scores in base 2.
  void prepare_query(std::size_t sequence, std::size_t token, std::size_t head, float* to) const {
    prepare(q.row(sequence * length + token) + head * head_dim(), block.q_norm, start + token, to);
    const double factor = std::numbers::log2e / std::sqrt(static_cast<double>(head_dim()));
    scale(to, static_cast<float>(factor), head_dim(), to);
  }

  void store_key_value(std::size_t sequence, std::size_t token, std::size_t kv_head,
                       float* scratch) const {
    const std::size_t row = sequence * length + token, first = kv_head * head_dim();
    const std::size_t offset = cache.offset(sequence, kv_head, start + token);
    prepare(k.row(row) + first, block.k_norm, start + token, scratch);
    to_operand(cache.type, scratch, cache.keys + offset, head_dim());
    to_operand(cache.type, v.row(row) + first, cache.values + offset, head_dim());
  }
};

void store_keys_values(const Attention& attention) {
  constexpr std::size_t kTile = 32;
  parallel_for((attention.k.rows + kTile - 1) / kTile, [&](std::size_t tile) {
    std::vector<float> scratch(attention.head_dim());
    const std::size_t end = std::min(attention.k.rows, (tile + 1) * kTile);
    for (std::size_t row = tile * kTile; row < end; ++row) {
      for (std::size_t head = 0; head < attention.kv_heads(); ++head) {
        attention.store_key_value(row / attention.length, row % attention.length, head,
                                  scratch.data());
      }
    }
  });
}

// Queries of consecutive tokens against one kv head. Row t * group + g is query head g of token t.
class QueryTile {
 public:
  QueryTile(const Attention& attention, std::size_t sequence, std::size_t kv_head,
            std::size_t first, std::size_t tokens)
      : attention_(attention),
        sequence_(sequence),
        kv_head_(kv_head),
        first_(first),
        tokens_(tokens),
        rows_(tokens * attention.group()),
        height_(round_up(rows_, kRowStep)),
        states_(rows_) {}

  void run() {
    load_queries();
    const std::size_t step = KeyValues::kPositionStep;
    const std::size_t from = attention_.first_visible(attention_.start + first_) / step * step;
    const std::size_t end = attention_.start + first_ + tokens_;
    for (std::size_t key = from; key < end; key += kTileKeys) {
      take_keys(key, std::min(kTileKeys, round_up(end - key, step)), key == from);
    }
    store_result();
  }

 private:
  void load_queries() {
    const std::size_t head_dim = attention_.head_dim(), group = attention_.group();
    const Operand type = attention_.cache.type;
    const std::size_t row_bytes = head_dim * operand_bytes(type);
    thread_local Buffer operands, totals, row;
    queries_ = operands.bytes(height_ * row_bytes);
    total_ = totals.floats(height_ * head_dim);
    float* query = row.floats(head_dim);
    for (std::size_t r = 0; r < rows_; ++r) {
      attention_.prepare_query(sequence_, first_ + r / group, kv_head_ * group + r % group, query);
      to_operand(type, query, queries_ + r * row_bytes, head_dim);
    }
    std::memset(queries_ + rows_ * row_bytes, 0, (height_ - rows_) * row_bytes);
  }

  // Keys [key, key + count).
  void take_keys(std::size_t key, std::size_t count, bool first_tile) {
    const KeyValues& cache = attention_.cache;
    thread_local Buffer score_buffer, weight_buffer, part_buffer;
    float* scores = score_buffer.floats(height_ * count);
    std::byte* weights = weight_buffer.bytes(height_ * count * operand_bytes(cache.type));
    const std::size_t offset = cache.offset(sequence_, kv_head_, key);
    multiply_tile(cache.type, {height_, count, cache.head_dim, /*b_transposed=*/true}, queries_,
                  cache.keys + offset, scores);
    std::vector<float> factors(rows_);
    for (std::size_t r = 0; r < rows_; ++r) {
      const std::size_t position = attention_.start + first_ + r / attention_.group();
      const std::size_t visible = std::max(attention_.first_visible(position), key) - key;
      const std::size_t end = std::clamp(position + 1, key, key + count) - key;
      factors[r] = softmax_step(states_[r], scores + r * count, std::min(visible, end), end, count,
                                cache.type, weights + r * count * operand_bytes(cache.type));
    }
    std::memset(weights + rows_ * count * operand_bytes(cache.type), 0,
                (height_ - rows_) * count * operand_bytes(cache.type));
    float* part = first_tile ? total_ : part_buffer.floats(height_ * cache.head_dim);
    multiply_tile(cache.type, {height_, cache.head_dim, count, /*b_transposed=*/false}, weights,
                  cache.values + offset, part);
    for (std::size_t r = 0; r < rows_ && !first_tile; ++r) {
      rescale_add(factors[r], part + r * cache.head_dim, cache.head_dim,
                  total_ + r * cache.head_dim);
    }
  }

  void store_result() const {
    const std::size_t head_dim = attention_.head_dim(), group = attention_.group();
    for (std::size_t r = 0; r < rows_; ++r) {
      const std::size_t token = sequence_ * attention_.length + first_ + r / group;
      scale(total_ + r * head_dim, 1.f / states_[r].sum, head_dim,
            attention_.a.row(token) + (kv_head_ * group + r % group) * head_dim);
    }
  }

  const Attention& attention_;
  std::size_t sequence_, kv_head_, first_, tokens_, rows_, height_;
  std::vector<SoftmaxState> states_;
  std::byte* queries_ = nullptr;
  float* total_ = nullptr;  // sum of weights x values so far
};

void attend_in_tiles(const Attention& attention) {
  const std::size_t tokens = std::max<std::size_t>(1, kTileRows / attention.group());
  const std::size_t tiles = (attention.length + tokens - 1) / tokens;
  const std::size_t heads = attention.kv_heads();
  parallel_for(attention.sequences() * heads * tiles, [&](std::size_t i) {
    // The last tiles have the most keys: begin with them, so that no thread is left with one.
    const std::size_t first = (tiles - 1 - i / (attention.sequences() * heads)) * tokens;
    const std::size_t sequence = i / heads % attention.sequences();
    QueryTile(attention, sequence, i % heads, first, std::min(tokens, attention.length - first))
        .run();
  });
}

// One new token per sequence: bound by reading the cache, so a plain loop over it.
void attend_in_steps(const Attention& attention) {
  const std::size_t heads = attention.kv_heads(), group = attention.group();
  const std::size_t head_dim = attention.head_dim(), position = attention.start;
  parallel_for(attention.sequences() * heads, [&](std::size_t i) {
    const std::size_t sequence = i / heads, kv_head = i % heads;
    thread_local Buffer buffer;
    float* queries = buffer.floats(group * head_dim);
    for (std::size_t g = 0; g < group; ++g) {
      attention.prepare_query(sequence, 0, kv_head * group + g, queries + g * head_dim);
    }
    const std::size_t first = attention.first_visible(position);
    attend_step(attention.cache, attention.cache.offset(sequence, kv_head, first),
                position + 1 - first, {queries, group, head_dim},
                attention.a.row(sequence) + kv_head * group * head_dim);
  });
}

}  // namespace

void attend(const ModelConfig& config, const Block& block, const RopeTable& rope,
            const KeyValues& cache, std::size_t start, std::size_t length,
            MatrixView<const float> h, MatrixView<float> a) {
  NEAP_CHECK(length > 0 && h.rows % length == 0 && h.rows == a.rows);
  NEAP_CHECK(start + length <= cache.capacity);
  NEAP_CHECK(!block.switches.rope || start + length <= rope.cosine.rows());
  const std::size_t kv_size = cache.kv_heads * cache.head_dim;
  NEAP_CHECK(a.cols == static_cast<std::size_t>(config.heads) * cache.head_dim);
  thread_local Buffer q_buffer, k_buffer, v_buffer;
  const MatrixView<float> q(q_buffer.floats(h.rows * a.cols), h.rows, a.cols);
  const MatrixView<float> k(k_buffer.floats(h.rows * kv_size), h.rows, kv_size);
  const MatrixView<float> v(v_buffer.floats(h.rows * kv_size), h.rows, kv_size);
  block.linear(Role::q).apply(h, q);
  block.linear(Role::k).apply(h, k);
  block.linear(Role::v).apply(h, v);
  const Attention attention{config, block, rope, cache, start, length, q, k, v, a};
  store_keys_values(attention);
  if (length == 1) {
    attend_in_steps(attention);
  } else {
    attend_in_tiles(attention);
  }
}

}  // namespace neap
