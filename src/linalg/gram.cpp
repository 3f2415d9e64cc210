#include "linalg/gram.h"

#include <cblas.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "base/parallel.h"
#include "linalg/matmul.h"
#include "linalg/token_pairs.h"

namespace neap {
namespace {

// A tile of the gram's upper triangle, or of the drift.
struct TilePlace {
  std::size_t row, col;
  bool drift;
};

std::vector<TilePlace> tiles_of(const GramPair& sum, std::size_t height, std::size_t width) {
  const std::size_t inputs = sum.gram.rows();
  std::vector<TilePlace> tiles;
  for (std::size_t i = 0; i < inputs; i += height) {
    for (std::size_t j = i / width * width; j < inputs; j += width) tiles.push_back({i, j, false});
    for (std::size_t j = 0; j < sum.drift.cols(); j += width) tiles.push_back({i, j, true});
  }
  return tiles;
}

// gram += runtime' runtime, drift += runtime' ahead.
void add_window_bf16(MatrixView<const float> runtime, MatrixView<const float> ahead, GramPair& sum) {
  const TokenPairs x(runtime), e(ahead);
  const auto tiles = tiles_of(sum, kPairTileRows, kPairTileCols);
  parallel_for(tiles.size(), [&](std::size_t k) {
    const auto [i, j, drift] = tiles[k];
    add_pair_product(x, drift ? e : x, i, j, drift ? sum.drift : sum.gram);
  });
}

void add_window_f32(MatrixView<const float> runtime, MatrixView<const float> ahead, GramPair& sum) {
  constexpr std::size_t kWidth = 192;  // wide enough for the product's peak, 576 inputs still occupy every core
  const auto tiles = tiles_of(sum, kWidth, kWidth);
  parallel_for(tiles.size(), [&](std::size_t k) {
    const ThreadScope serial(1);
    const auto [i, j, drift] = tiles[k];
    const MatrixView<const float> right = drift ? ahead : runtime;
    Matrix<float>& to = drift ? sum.drift : sum.gram;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, std::min(kWidth, to.rows() - i), std::min(kWidth, to.cols() - j),
                runtime.rows, 1, runtime.data + i, runtime.stride, right.data + j, right.stride, 1, to.row(i) + j, to.cols());
  });
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
      precision_(bf16_operand() == Operand::bf16 ? precision : Precision::f32) {
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
  if (runtime.rows == 0) return;
  precision_ == Precision::bf16 ? add_window_bf16(runtime, ahead, sum) : add_window_f32(runtime, ahead, sum);
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
