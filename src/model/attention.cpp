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
  Operand operand;
  MatrixView<const float> q, k, v;
  MatrixView<float> a;

  std::size_t head_dim() const { return cache.keys.head_dim; }
  std::size_t kv_heads() const { return cache.kv_heads; }
  // Query heads that share a kv head.
  std::size_t group() const { return static_cast<std::size_t>(config.heads) / cache.kv_heads; }
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

  // The query of a segment's token, scaled for scores in base 2.
  void prepare_query(const Segment& segment, std::size_t token, std::size_t head, float* to) const {
    prepare(q.row(segment.row + token) + head * head_dim(), block.q_norm, segment.start + token,
            to);
    const double factor = std::numbers::log2e / std::sqrt(static_cast<double>(head_dim()));
    scale(to, static_cast<float>(factor), head_dim(), to);
  }

  void store_keys_values(const Segment& segment, std::size_t token, float* scratch) const {
    const std::size_t row = segment.row + token, position = segment.start + token;
    for (std::size_t head = 0; head < kv_heads(); ++head) {
      const std::size_t to = cache.row(segment.sequence, head, position);
      prepare(k.row(row) + head * head_dim(), block.k_norm, position, scratch);
      cache.keys.store(to, scratch);
      cache.values.store(to, v.row(row) + head * head_dim());
    }
  }
};

// Work on a part of a segment: keys and values to store, or queries that attend.
struct Task {
  std::size_t segment = 0, kv_head = 0, first = 0, count = 0;
};

void store_keys_values(const Attention& attention, std::span<const Segment> segments) {
  constexpr std::size_t kTile = 32;
  thread_local std::vector<Task> tasks;
  tasks.clear();
  for (std::size_t s = 0; s < segments.size(); ++s) {
    for (std::size_t first = 0; first < segments[s].count; first += kTile) {
      tasks.push_back({s, 0, first, std::min(kTile, segments[s].count - first)});
    }
  }
  const std::span<const Task> all(tasks);
  // A few single tokens are not worth waking a thread for.
  const std::size_t at_once = attention.k.rows == all.size() ? 8 : 1;
  parallel_for((all.size() + at_once - 1) / at_once, [&](std::size_t piece) {
    thread_local Buffer buffer;
    float* scratch = buffer.floats(attention.head_dim());
    const std::size_t end = std::min(all.size(), (piece + 1) * at_once);
    for (std::size_t i = piece * at_once; i < end; ++i) {
      for (std::size_t token = all[i].first; token < all[i].first + all[i].count; ++token) {
        attention.store_keys_values(segments[all[i].segment], token, scratch);
      }
    }
  });
}

// Queries of consecutive tokens against one kv head. Row t * group + g is query head g of token t.
class QueryTile {
 public:
  QueryTile(const Attention& attention, const Segment& segment, std::size_t kv_head,
            std::size_t first, std::size_t tokens)
      : attention_(attention),
        segment_(segment),
        kv_head_(kv_head),
        first_(first),
        tokens_(tokens),
        rows_(tokens * attention.group()),
        height_(round_up(rows_, kRowStep)),
        states_(rows_) {}

  void run() {
    load_queries();
    const std::size_t step = KeyValues::kPositionStep;
    const std::size_t from = attention_.first_visible(segment_.start + first_) / step * step;
    const std::size_t end = segment_.start + first_ + tokens_;
    for (std::size_t key = from; key < end; key += kTileKeys) {
      take_keys(key, std::min(kTileKeys, round_up(end - key, step)), key == from);
    }
    store_result();
  }

 private:
  void load_queries() {
    const std::size_t head_dim = attention_.head_dim(), group = attention_.group();
    const Operand type = attention_.operand;
    const std::size_t row_bytes = head_dim * operand_bytes(type);
    thread_local Buffer operands, totals, row;
    queries_ = operands.bytes(height_ * row_bytes);
    total_ = totals.floats(height_ * head_dim);
    float* query = row.floats(head_dim);
    for (std::size_t r = 0; r < rows_; ++r) {
      attention_.prepare_query(segment_, first_ + r / group, kv_head_ * group + r % group, query);
      to_operand(type, query, queries_ + r * row_bytes, head_dim);
    }
    std::memset(queries_ + rows_ * row_bytes, 0, (height_ - rows_) * row_bytes);
  }

  // Keys [key, key + count).
  void take_keys(std::size_t key, std::size_t count, bool first_tile) {
    const KeyValues& cache = attention_.cache;
    const Operand type = attention_.operand;
    const std::size_t head_dim = attention_.head_dim(), row = cache.row(segment_.sequence, kv_head_, key);
    const std::size_t row_bytes = count * operand_bytes(type);
    thread_local Buffer score_buffer, weight_buffer, part_buffer, decoded;
    float* scores = score_buffer.floats(height_ * count);
    std::byte* weights = weight_buffer.bytes(height_ * row_bytes);
    multiply_tile(type, {height_, count, head_dim, /*b_transposed=*/true}, queries_,
                  cache.keys.load(row, count, type, decoded), scores);
    std::vector<float> factors(rows_);
    for (std::size_t r = 0; r < rows_; ++r) {
      const std::size_t position = segment_.start + first_ + r / attention_.group();
      const std::size_t visible = std::max(attention_.first_visible(position), key) - key;
      const std::size_t end = std::clamp(position + 1, key, key + count) - key;
      factors[r] = softmax_step(states_[r], scores + r * count, std::min(visible, end), end, count,
                                type, weights + r * row_bytes);
    }
    std::memset(weights + rows_ * row_bytes, 0, (height_ - rows_) * row_bytes);
    float* part = first_tile ? total_ : part_buffer.floats(height_ * head_dim);
    multiply_tile(type, {height_, head_dim, count, /*b_transposed=*/false}, weights,
                  cache.values.load(row, count, type, decoded), part);
    for (std::size_t r = 0; r < rows_ && !first_tile; ++r) {
      rescale_add(factors[r], part + r * head_dim, head_dim, total_ + r * head_dim);
    }
  }

  void store_result() const {
    const std::size_t head_dim = attention_.head_dim(), group = attention_.group();
    for (std::size_t r = 0; r < rows_; ++r) {
      const std::size_t token = segment_.row + first_ + r / group;
      scale(total_ + r * head_dim, 1.f / states_[r].sum, head_dim,
            attention_.a.row(token) + (kv_head_ * group + r % group) * head_dim);
    }
  }

  const Attention& attention_;
  const Segment& segment_;
  std::size_t kv_head_, first_, tokens_, rows_, height_;
  std::vector<SoftmaxState> states_;
  std::byte* queries_ = nullptr;
  float* total_ = nullptr;  // sum of weights x values so far
};

// Segments of more than one token.
void attend_in_tiles(const Attention& attention, std::span<const Segment> segments) {
  const std::size_t tokens = std::max<std::size_t>(1, kTileRows / attention.group());
  thread_local std::vector<Task> tasks;
  tasks.clear();
  for (std::size_t s = 0; s < segments.size(); ++s) {
    if (segments[s].count == 1) continue;
    for (std::size_t first = 0; first < segments[s].count; first += tokens) {
      for (std::size_t head = 0; head < attention.kv_heads(); ++head) {
        tasks.push_back({s, head, first, std::min(tokens, segments[s].count - first)});
      }
    }
  }
  // Begin with those that have the most keys, so that no thread is left with one.
  std::stable_sort(tasks.begin(), tasks.end(), [&](const Task& a, const Task& b) {
    return segments[a.segment].start + a.first > segments[b.segment].start + b.first;
  });
  const std::span<const Task> all(tasks);
  parallel_for(all.size(), [&](std::size_t i) {
    const Task& task = all[i];
    QueryTile(attention, segments[task.segment], task.kv_head, task.first, task.count).run();
  });
}

// One new token is bound by reading the cache: a plain loop over it, in parts of so many positions,
// so that there is work for more threads than a model has kv heads.
constexpr std::size_t kStepPositions = 512;

void attend_part(const Attention& attention, const Segment& segment, const Task& task,
                 SoftmaxState* states, float* out) {
  const std::size_t group = attention.group(), head_dim = attention.head_dim();
  thread_local Buffer buffer;
  float* queries = buffer.floats(group * head_dim);
  for (std::size_t g = 0; g < group; ++g) {
    attention.prepare_query(segment, 0, task.kv_head * group + g, queries + g * head_dim);
  }
  attend_step(attention.cache, attention.operand,
              attention.cache.row(segment.sequence, task.kv_head, task.first), task.count,
              {queries, group, head_dim}, states, out);
}

// The outputs of the parts of one segment's kv head as one.
void merge_parts(std::size_t parts, std::size_t group, std::size_t head_dim,
                 const SoftmaxState* states, const float* outputs, float* to) {
  for (std::size_t g = 0; g < group; ++g, to += head_dim) {
    float most = states[g].max, total = 0;
    for (std::size_t p = 1; p < parts; ++p) most = std::max(most, states[p * group + g].max);
    const auto share = [&](std::size_t p) {
      const SoftmaxState& state = states[p * group + g];
      return state.sum * std::exp2(state.max - most);
    };
    for (std::size_t p = 0; p < parts; ++p) total += share(p);
    for (std::size_t p = 0; p < parts; ++p) {
      const float* from = outputs + (p * group + g) * head_dim;
      if (p == 0) {
        scale(from, share(p) / total, head_dim, to);
      } else {
        add_scaled(from, share(p) / total, head_dim, to);
      }
    }
  }
}

// Segments of one token.
void attend_in_steps(const Attention& attention, std::span<const Segment> segments) {
  thread_local std::vector<Task> tasks;
  thread_local std::vector<SoftmaxState> states;
  thread_local Buffer outputs;
  tasks.clear();
  for (std::size_t s = 0; s < segments.size(); ++s) {
    if (segments[s].count != 1) continue;
    const std::size_t end = segments[s].start + 1;
    for (std::size_t head = 0; head < attention.kv_heads(); ++head) {
      for (std::size_t first = attention.first_visible(segments[s].start); first < end;
           first += kStepPositions) {
        tasks.push_back({s, head, first, std::min(kStepPositions, end - first)});
      }
    }
  }
  const std::size_t group = attention.group(), head_dim = attention.head_dim();
  states.assign(tasks.size() * group, {});
  const std::span<const Task> all(tasks);
  SoftmaxState* state = states.data();
  float* out = outputs.floats(tasks.size() * group * head_dim);
  parallel_for(all.size(), [&](std::size_t i) {
    attend_part(attention, segments[all[i].segment], all[i], state + i * group,
                out + i * group * head_dim);
  });
  for (std::size_t i = 0, next = 0; i < all.size(); i = next) {
    const auto same = [&](const Task& task) {
      return task.segment == all[i].segment && task.kv_head == all[i].kv_head;
    };
    while (next < all.size() && same(all[next])) ++next;
    merge_parts(next - i, group, head_dim, state + i * group, out + i * group * head_dim,
                attention.a.row(segments[all[i].segment].row) + all[i].kv_head * group * head_dim);
  }
}

}  // namespace

void attend(const ModelConfig& config, const Block& block, const RopeTable& rope,
            const KeyValues& cache, Operand operand, std::span<const Segment> segments,
            MatrixView<const float> h, MatrixView<float> a) {
  NEAP_CHECK(!segments.empty() && h.rows == a.rows);
  NEAP_CHECK(segments.back().row + segments.back().count == h.rows);
  for (const Segment& segment : segments) {
    NEAP_CHECK(segment.count > 0 && segment.start + segment.count <= cache.capacity);
    NEAP_CHECK(!block.switches.rope || segment.start + segment.count <= rope.cosine.rows());
  }
  const std::size_t kv_size = cache.kv_heads * cache.keys.head_dim;
  NEAP_CHECK(a.cols == static_cast<std::size_t>(config.heads) * cache.keys.head_dim);
  thread_local Buffer q_buffer, k_buffer, v_buffer;
  const MatrixView<float> q(q_buffer.floats(h.rows * a.cols), h.rows, a.cols);
  const MatrixView<float> k(k_buffer.floats(h.rows * kv_size), h.rows, kv_size);
  const MatrixView<float> v(v_buffer.floats(h.rows * kv_size), h.rows, kv_size);
  const LinearCall calls[] = {
      {&block.linear(Role::q), q}, {&block.linear(Role::k), k}, {&block.linear(Role::v), v}};
  apply_all(calls, h);
  const Attention attention{config, block, rope, cache, operand, q, k, v, a};
  store_keys_values(attention, segments);
  attend_in_tiles(attention, segments);
  attend_in_steps(attention, segments);
}

}  // namespace neap
