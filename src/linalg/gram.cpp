#include "linalg/gram.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "base/parallel.h"
#include "linalg/product.h"

namespace neap {
namespace {

// Wide enough for the product's peak, narrow enough that 576 inputs still occupy every core.
std::size_t tile_width(std::size_t inputs) { return inputs <= 1024 ? 192 : 256; }

struct TilePlace {
  std::size_t row, col;
  bool drift;
};

// Every tile of the drift, and those of the gram's upper triangle.
std::vector<TilePlace> tiles_of(std::size_t inputs, std::size_t ahead) {
  const std::size_t width = tile_width(inputs);
  std::vector<TilePlace> tiles;
  for (std::size_t i = 0; i < inputs; i += width) {
    for (std::size_t j = i; j < inputs; j += width) tiles.push_back({i, j, false});
    for (std::size_t j = 0; j < ahead; j += width) tiles.push_back({i, j, true});
  }
  return tiles;
}

// gram += runtime' runtime, drift += runtime' ahead.
template <class T>
void add_products(const Matrix<T>& runtime, const Matrix<T>& ahead, GramPair& sum) {
  const std::size_t inputs = runtime.cols(), rows = runtime.rows(), width = tile_width(inputs);
  const auto tiles = tiles_of(inputs, ahead.cols());
  parallel_for(tiles.size(), [&](std::size_t k) {
    const auto [i, j, drift] = tiles[k];
    const auto right = drift ? ahead.view() : runtime.view();
    const std::size_t height = std::min(width, inputs - i), across = std::min(width, right.cols - j);
    add_transposed_product(runtime.view().block(0, i, rows, height), right.block(0, j, rows, across),
                           (drift ? sum.drift : sum.gram).view().block(i, j, height, across));
  });
}

void convert(const float* from, float* to, std::size_t count) { std::copy_n(from, count, to); }
void convert(const float* from, Bf16* to, std::size_t count) { float_to_bf16(from, to, count); }

template <class T>
void add_window(MatrixView<const float> runtime, MatrixView<const float> ahead, GramPair& sum) {
  Matrix<T> x(runtime.rows, runtime.cols);
  Matrix<T> e(ahead.rows, ahead.cols);
  constexpr std::size_t kRows = 64;
  parallel_for((runtime.rows + kRows - 1) / kRows, [&](std::size_t tile) {
    const std::size_t end = std::min(runtime.rows, (tile + 1) * kRows);
    for (std::size_t r = tile * kRows; r < end; ++r) {
      convert(runtime.row(r), x.row(r), runtime.cols);
      if (!ahead.empty()) convert(ahead.row(r), e.row(r), ahead.cols);
    }
  });
  add_products(x, e, sum);
}

void add_to(Matrix<float>& sum, const Matrix<float>& term) {
  constexpr std::size_t kRows = 64;
  parallel_for((sum.rows() + kRows - 1) / kRows, [&](std::size_t tile) {
    const std::size_t end = std::min(sum.rows(), (tile + 1) * kRows);
    for (std::size_t k = tile * kRows * sum.cols(); k < end * sum.cols(); ++k) {
      sum.data()[k] += term.data()[k];
    }
  });
}

// Chunks of the smallest subtree that holds both chunks.
std::pair<std::size_t, std::size_t> common_subtree(std::size_t a, std::size_t b) {
  const std::size_t size = std::size_t{1} << std::bit_width(a ^ b);
  return {a / size * size, a / size * size + size};
}

}  // namespace

GramAccumulator::GramAccumulator(std::size_t inputs, std::size_t ahead, std::size_t windows,
                                 Precision precision)
    : inputs_(inputs),
      ahead_(ahead),
      windows_(windows),
      precision_(has_bf16_products() ? precision : Precision::f32) {
  NEAP_CHECK(inputs > 0 && windows > 0);
}

void GramAccumulator::add(std::size_t index, MatrixView<const float> runtime,
                          MatrixView<const float> ahead) {
  NEAP_CHECK(index < windows_ && index >= end_ && runtime.cols == inputs_);
  NEAP_CHECK(ahead_ == 0 ? ahead.empty() : ahead.rows == runtime.rows && ahead.cols == ahead_);
  // The chunk c with c windows / kChunks <= index < (c + 1) windows / kChunks, borders rounded down.
  const std::size_t chunk = ((index + 1) * kChunks + windows_ - 1) / windows_ - 1;
  if (nodes_.empty()) begin_ = index;
  end_ = index + 1;
  if (nodes_.empty() || nodes_.back().last != chunk) {
    join(chunk);
    GramPair zero{Matrix<float>(inputs_, inputs_), {}};
    if (ahead_ > 0) zero.drift = Matrix<float>(inputs_, ahead_);
    nodes_.push_back({chunk, chunk, std::move(zero)});
  }
  GramPair& sum = nodes_.back().sum;
  if (precision_ == Precision::bf16) {
    add_window<Bf16>(runtime, ahead, sum);
  } else {
    add_window<float>(runtime, ahead, sum);
  }
}

// Joins the last nodes as long as their subtree is whole: all its windows are here, and none of its
// chunks is `open` or later.
void GramAccumulator::join(std::size_t open) {
  while (nodes_.size() >= 2) {
    Node &a = nodes_[nodes_.size() - 2], &b = nodes_.back();
    const auto [first, end] = common_subtree(a.first, b.last);
    if (end > open || first * windows_ / kChunks < begin_) return;
    add_to(a.sum.gram, b.sum.gram);
    if (ahead_ > 0) add_to(a.sum.drift, b.sum.drift);
    a.last = b.last;
    nodes_.pop_back();
  }
}

void GramAccumulator::merge(GramAccumulator&& next) {
  NEAP_CHECK(next.inputs_ == inputs_ && next.windows_ == windows_ && next.ahead_ == ahead_ &&
             next.precision_ == precision_);
  if (next.nodes_.empty()) return;
  NEAP_CHECK(nodes_.empty() || (next.begin_ >= end_ && next.nodes_[0].first > nodes_.back().last));
  if (nodes_.empty()) begin_ = next.begin_;
  for (Node& node : next.nodes_) {
    join(node.first);
    nodes_.push_back(std::move(node));
  }
  end_ = next.end_;
  next.nodes_.clear();
}

GramPair GramAccumulator::finish() {
  NEAP_CHECK(!nodes_.empty());
  begin_ = 0;  // whatever lies before is nobody's
  std::vector<Node> nodes = std::exchange(nodes_, {});
  for (Node& node : nodes) {
    join(node.first);
    nodes_.push_back(std::move(node));
  }
  join(kChunks);
  GramPair sum = std::move(nodes_[0].sum);
  nodes_.clear();
  parallel_for((inputs_ + 63) / 64, [&](std::size_t tile) {
    for (std::size_t r = tile * 64; r < std::min(inputs_, tile * 64 + 64); ++r) {
      for (std::size_t c = 0; c < r; ++c) sum.gram(r, c) = sum.gram(c, r);
    }
  });
  return sum;
}

}  // namespace neap
