#include "linalg/matmul.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/half.h"
#include "base/parallel.h"
#include "base/buffer.h"
#include "base/page_memory.h"

namespace neap {
namespace {

using Memory = dnnl::memory;
using Type = Memory::data_type;
using Layout = Memory::format_tag;

// Rows of the weight in a panel, the unit in which few rows of x are spread over threads: a
// multiple of every block that oneDNN cuts weights into.
constexpr std::size_t kPanelRows = 192;

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& this_thread_stream() {
  thread_local dnnl::stream stream(cpu_engine());
  return stream;
}

// oneDNN's levels are bit masks, each a superset of those it builds on.
bool machine_has(dnnl::cpu_isa level) {
  const auto mask = static_cast<unsigned>(level);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & mask) == mask;
}

Type stored_type(Operand type) { return type == Operand::bf16 ? Type::bf16 : Type::f32; }

// The heights that tiles of x come in, the last one that of a whole tile, whose operand stays in a
// core's L2 while the weights stream by; fewer rows are filled up with zeros. Few heights, so that
// few primitives are compiled. Below AVX-512 oneDNN's kernels treat the last rows of a tile
// differently unless they fill a multiple of 24.
std::span<const std::size_t> tile_heights() {
  static constexpr std::array<std::size_t, 11> kAny{1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128};
  static constexpr std::array<std::size_t, 3> kMultiples{24, 48, 96};
  static const bool any_height = machine_has(dnnl::cpu_isa::avx512_core);
  return any_height ? std::span<const std::size_t>(kAny) : std::span<const std::size_t>(kMultiples);
}

std::size_t whole_tile() { return tile_heights().back(); }

std::size_t tile_height(std::size_t rows) {
  const auto heights = tile_heights();
  return *std::lower_bound(heights.begin(), heights.end(), rows);
}

// Not worth the weights' way from memory: a tile of fewer rows, only to have one for each thread.
constexpr std::size_t kShortestShare = 16;

enum class Weights { packed, plain, transposed };

// Everything that a primitive is compiled for.
struct PlanKey {
  Operand type;
  Weights weights;
  std::size_t m, n, k;

  bool operator==(const PlanKey&) const = default;
};

struct PlanHash {
  std::size_t operator()(const PlanKey& key) const {
    std::size_t hash =
        static_cast<std::size_t>(key.type) * 3 + static_cast<std::size_t>(key.weights);
    for (const std::size_t value : {key.m, key.n, key.k}) hash = hash * 0x9e3779b97f4a7c15u + value;
    return hash ^ (hash >> 29);
  }
};

// A compiled product and the memory objects that it is called with. Compiling takes milliseconds,
// so plans are kept; they belong to one thread, because running one sets its pointers.
class Plan {
 public:
  explicit Plan(const PlanKey& key) : Plan(key, weights_layout(key)) {}

  void run(const void* x, const Memory& weights, float* y) {
    // oneDNN reads the thread count at each call. One, also when no parallel region is around.
    const ThreadScope one_thread(1);
    arguments_.at(DNNL_ARG_SRC).set_data_handle(const_cast<void*>(x));
    arguments_.at(DNNL_ARG_DST).set_data_handle(y);
    arguments_.insert_or_assign(DNNL_ARG_WEIGHTS, weights);
    primitive_.execute(this_thread_stream(), arguments_);
  }
  void run(const void* x, const void* weights, float* y) {
    run(x, Memory(description_.weights_desc(), cpu_engine(), const_cast<void*>(weights)), y);
  }
  Memory::desc weights_desc() const { return description_.weights_desc(); }

 private:
  Plan(const PlanKey& key, const Memory::desc& weights)
      : description_(describe(key, weights)), primitive_(description_) {
    arguments_.emplace(DNNL_ARG_SRC, Memory(description_.src_desc(), cpu_engine(), nullptr));
    arguments_.emplace(DNNL_ARG_DST, Memory(description_.dst_desc(), cpu_engine(), nullptr));
    arguments_.emplace(DNNL_ARG_SCRATCHPAD, Memory(description_.scratchpad_desc(), cpu_engine()));
  }

  static Memory::dims dims(std::size_t rows, std::size_t cols) {
    return {static_cast<Memory::dim>(rows), static_cast<Memory::dim>(cols)};
  }

  // Whatever the height of the tile, packed weights lie as oneDNN likes them for a full one.
  static Memory::desc weights_layout(const PlanKey& key) {
    const auto described = [&](Layout layout) {
      return Memory::desc(dims(key.k, key.n), stored_type(key.type), layout);
    };
    if (key.weights == Weights::plain) return described(Layout::ab);
    if (key.weights == Weights::transposed) return described(Layout::ba);
    PlanKey whole = key;
    whole.m = whole_tile();
    return describe(whole, described(Layout::any)).weights_desc();
  }

  static dnnl::matmul::primitive_desc describe(const PlanKey& key, const Memory::desc& weights) {
    const ThreadScope one_thread(1);  // else the work would be cut for as many threads as there are
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const Memory::desc x(dims(key.m, key.k), stored_type(key.type), Layout::ab);
    const Memory::desc y(dims(key.m, key.n), Type::f32, Layout::ab);
    return {dnnl::matmul::desc(x, weights, y), attributes, cpu_engine()};
  }

  dnnl::matmul::primitive_desc description_;
  dnnl::matmul primitive_;
  std::unordered_map<int, Memory> arguments_;
};

Plan& plan_for(const PlanKey& key) {
  thread_local std::unordered_map<PlanKey, Plan, PlanHash> plans;
  const auto found = plans.find(key);
  if (found != plans.end()) return found->second;
  const ThreadScope one_thread(1);
  return plans.emplace(key, Plan(key)).first->second;
}

std::size_t tiles_of(std::size_t count, std::size_t tile) { return (count + tile - 1) / tile; }

// Rows of x as an operand of `height` rows.
const std::byte* load_rows(Operand type, MatrixView<const float> x, std::size_t height) {
  thread_local Buffer buffer;
  const std::size_t row_bytes = x.cols * operand_bytes(type);
  std::byte* to = buffer.bytes(height * row_bytes);
  for (std::size_t r = 0; r < x.rows; ++r) to_operand(type, x.row(r), to + r * row_bytes, x.cols);
  std::memset(to + x.rows * row_bytes, 0, (height - x.rows) * row_bytes);
  return to;
}

void store_rows(const float* from, std::span<const float> bias, MatrixView<float> y) {
  for (std::size_t r = 0; r < y.rows; ++r, from += y.cols) {
    float* to = y.row(r);
    if (bias.empty()) {
      std::memcpy(to, from, y.cols * sizeof(float));
    } else {
      for (std::size_t c = 0; c < y.cols; ++c) to[c] = from[c] + bias[c];
    }
  }
}

// Where in the packed weight the panel that begins with `row` begins, in bytes, if it lies there
// just as it would lie alone.
std::optional<std::size_t> slice_offset(const Memory::desc& whole, const Memory::desc& panel,
                                        std::size_t row) {
  const auto& all = whole.data.format_desc.blocking;
  const auto& part = panel.data.format_desc.blocking;
  std::size_t block = 1;  // of rows
  bool same = all.inner_nblks == part.inner_nblks;
  for (int i = 0; same && i < all.inner_nblks; ++i) {
    same = all.inner_blks[i] == part.inner_blks[i] && all.inner_idxs[i] == part.inner_idxs[i];
    if (all.inner_idxs[i] == 1) block *= static_cast<std::size_t>(all.inner_blks[i]);
  }
  same = same && std::equal(all.strides, all.strides + 2, part.strides) && row % block == 0;
  if (!same) return std::nullopt;
  const std::size_t bytes = Memory::data_type_size(whole.data_type());
  return row / block * static_cast<std::size_t>(all.strides[1]) * bytes;
}

}  // namespace

Operand bf16_operand() {
  static const bool native = machine_has(dnnl::cpu_isa::avx512_core_bf16);
  return native ? Operand::bf16 : Operand::bf16_in_f32;
}

std::size_t operand_bytes(Operand type) {
  return type == Operand::bf16 ? sizeof(Bf16) : sizeof(float);
}

void to_operand(Operand type, const float* from, std::byte* to, std::size_t count) {
  if (type == Operand::f32) {
    std::memcpy(to, from, count * sizeof(float));
  } else if (type == Operand::bf16) {
    float_to_bf16(from, reinterpret_cast<Bf16*>(to), count);
  } else {
    auto* rounded = reinterpret_cast<float*>(to);
    for (std::size_t i = 0; i < count; ++i) rounded[i] = bf16_to_float(float_to_bf16(from[i]));
  }
}

void multiply_tile(Operand type, const TileProduct& shape, const std::byte* x, const std::byte* b,
                   float* y) {
  const Weights weights = shape.b_transposed ? Weights::transposed : Weights::plain;
  plan_for({type, weights, shape.m, shape.n, shape.k}).run(x, static_cast<const void*>(b), y);
}

struct PackedWeights::Impl {
  Operand type;
  std::size_t in, out;
  std::optional<PageMemory> memory;
  Memory whole;  // in it
  // kPanelRows rows of the weight each, the last one maybe fewer; or all of it, where oneDNN's
  // layout does not let it be cut.
  std::vector<Memory> panels;

  Impl(MatrixView<const float> weight, Operand operand)
      : type(operand), in(weight.cols), out(weight.rows) {
    pack(weight);
    for (std::size_t first = 0; first < out; first += kPanelRows) {
      const Memory::desc panel = plan_for(key(panel_rows(first), whole_tile())).weights_desc();
      const auto offset = slice_offset(whole.get_desc(), panel, first);
      if (!offset) {
        panels = {whole};
        return;
      }
      panels.emplace_back(panel, cpu_engine(),
                          static_cast<std::byte*>(whole.get_data_handle()) + *offset);
    }
  }

  std::size_t panel_rows(std::size_t first) const { return std::min(kPanelRows, out - first); }
  PlanKey key(std::size_t columns, std::size_t height) const {
    return {type, Weights::packed, height, columns, in};
  }

  void pack(MatrixView<const float> weight) {
    const std::size_t row_bytes = in * operand_bytes(type);
    Buffer buffer;
    std::byte* rows = buffer.bytes(out * row_bytes);
    constexpr std::size_t kRows = 64;
    parallel_for(tiles_of(out, kRows), [&](std::size_t tile) {
      for (std::size_t r = tile * kRows; r < std::min(out, (tile + 1) * kRows); ++r) {
        to_operand(type, weight.row(r), rows + r * row_bytes, in);
      }
    });
    const Memory::dims dims{static_cast<Memory::dim>(in), static_cast<Memory::dim>(out)};
    Memory plain({dims, stored_type(type), Layout::ba}, cpu_engine(), rows);
    const Memory::desc packed = plan_for(key(out, whole_tile())).weights_desc();
    memory.emplace(packed.get_size());
    whole = Memory(packed, cpu_engine(), memory->data());
    dnnl::reorder(plain, whole).execute(this_thread_stream(), plain, whole);
  }

  // A whole tile of rows, all panels: oneDNN writes the result where it belongs.
  void multiply_tile_in_place(MatrixView<const float> x, std::span<const float> bias,
                              MatrixView<float> y) const {
    plan_for(key(out, x.rows)).run(load_rows(type, x, x.rows), whole, y.data);
    for (std::size_t r = 0; r < y.rows && !bias.empty(); ++r) {
      for (std::size_t c = 0; c < out; ++c) y(r, c) += bias[c];
    }
  }

  // Any number of rows up to a whole tile, for the panels [begin, end).
  void multiply_panels(MatrixView<const float> x, std::span<const float> bias, std::size_t begin,
                       std::size_t end, MatrixView<float> y) const {
    thread_local Buffer buffer;
    const std::size_t height = tile_height(x.rows);
    const std::byte* operand = load_rows(type, x, height);
    for (std::size_t p = begin; p < end; ++p) {
      const std::size_t first = p * kPanelRows;
      const std::size_t columns = panels.size() == 1 ? out : panel_rows(first);
      float* product = buffer.floats(height * columns);
      plan_for(key(columns, height)).run(operand, panels[p], product);
      store_rows(product, bias.empty() ? bias : bias.subspan(first, columns),
                 y.block(0, first, y.rows, columns));
    }
  }
};

PackedWeights::PackedWeights(MatrixView<const float> weight, Operand type) {
  NEAP_CHECK(!weight.empty());
  impl_ = std::make_unique<Impl>(weight, type);
}

PackedWeights::PackedWeights(PackedWeights&&) noexcept = default;
PackedWeights& PackedWeights::operator=(PackedWeights&&) noexcept = default;
PackedWeights::~PackedWeights() = default;

std::size_t PackedWeights::in() const { return impl_->in; }
std::size_t PackedWeights::out() const { return impl_->out; }

void PackedWeights::multiply(MatrixView<const float> x, std::span<const float> bias,
                             MatrixView<float> y) const {
  NEAP_CHECK(x.cols == in() && y.cols == out() && x.rows == y.rows);
  NEAP_CHECK(bias.empty() || bias.size() == out());
  if (x.rows == 0) return;
  // Pieces enough for every thread: first shorter tiles, then panels. No bit depends on the cut.
  const auto threads = static_cast<std::size_t>(thread_count());
  const std::size_t shortest = std::min<std::size_t>(x.rows, kShortestShare);
  const std::size_t share = std::max(shortest, tiles_of(x.rows, threads));
  const std::size_t height = tile_height(std::min(share, whole_tile()));
  const std::size_t tiles = tiles_of(x.rows, height), panels = impl_->panels.size();
  const std::size_t groups = std::min(panels, tiles_of(threads, tiles));
  parallel_for(tiles * groups, [&](std::size_t piece) {
    const std::size_t first = piece / groups * height, group = piece % groups;
    const std::size_t rows = std::min(height, x.rows - first);
    const MatrixView<const float> from = x.row_range(first, rows);
    const MatrixView<float> to = y.row_range(first, rows);
    if (groups == 1 && rows == height && y.contiguous()) {
      impl_->multiply_tile_in_place(from, bias, to);
    } else {
      impl_->multiply_panels(from, bias, group * panels / groups, (group + 1) * panels / groups,
                             to);
    }
  });
}

}  // namespace neap
