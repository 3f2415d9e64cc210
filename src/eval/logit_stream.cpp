#include "eval/logit_stream.h"

#include <algorithm>
#include <cstdint>

#include "neap/check.h"
#include "neap/error.h"

namespace neap {
namespace {

// A tile of logits stays near this size per model; the product with the head needs some dozens of rows
// to be worth reading the head for.
constexpr std::size_t kTileBytes = std::size_t{64} << 20;
constexpr std::size_t kLeastRows = 32, kMostRows = 512;

std::size_t rows_per_tile(std::size_t vocabulary) {
  return std::clamp(kTileBytes / (vocabulary * sizeof(float)), kLeastRows, kMostRows);
}

// Windows [first, last) that run together, padded to `length` tokens.
struct Batch {
  std::size_t first = 0, last = 0, length = 0;
};

Batch next_batch(const std::vector<EvalWindow>& windows, std::size_t first, std::size_t tokens) {
  Batch batch{first, first, 0};
  while (batch.last < windows.size()) {
    const std::size_t length = std::max(batch.length, windows[batch.last].tokens.size());
    if (batch.last > first && length * (batch.last - first + 1) > tokens) break;
    batch.length = length;
    ++batch.last;
  }
  return batch;
}

class Streamer {
 public:
  Streamer(std::span<LanguageModel* const> models, const std::vector<EvalWindow>& windows,
           const EvalOptions& options, const TileBody& body)
      : models_(models), windows_(windows), options_(options), body_(body) {
    const auto vocabulary = static_cast<std::size_t>(models[0]->config().vocabulary);
    tile_rows_ = rows_per_tile(vocabulary);
    for (LanguageModel* model : models) {
      NEAP_CHECK(static_cast<std::size_t>(model->config().vocabulary) == vocabulary);
      inputs_.emplace_back(tile_rows_, static_cast<std::size_t>(model->config().hidden));
      logits_.emplace_back(tile_rows_, vocabulary);
    }
    states_.resize(models.size());
  }

  void run() {
    report(0);
    const auto tokens = static_cast<std::size_t>(std::max<std::int64_t>(options_.batch_tokens, 1));
    for (std::size_t first = 0; first < windows_.size();) {
      const Batch batch = next_batch(windows_, first, tokens);
      forward(batch);
      read_heads(batch);
      first = batch.last;
      report(first);
    }
  }

 private:
  void report(std::size_t done) const {
    if (options_.progress &&
        !options_.progress({.stage = "evaluating",
                            .done = static_cast<std::int64_t>(done),
                            .total = static_cast<std::int64_t>(windows_.size())})) {
      throw Error(ErrorCode::cancelled, "evaluation cancelled");
    }
  }

  void forward(const Batch& batch) {
    const std::size_t count = batch.last - batch.first;
    std::vector<TokenId> tokens;
    tokens.reserve(count * batch.length);
    for (std::size_t w = batch.first; w < batch.last; ++w) {
      const auto& window = windows_[w].tokens;
      tokens.insert(tokens.end(), window.begin(), window.end());
      tokens.insert(tokens.end(), batch.length - window.size(), window.back());
    }
    for (std::size_t m = 0; m < models_.size(); ++m) {
      const auto hidden = static_cast<std::size_t>(models_[m]->config().hidden);
      if (states_[m].rows() != tokens.size()) states_[m] = Matrix<float>(tokens.size(), hidden);
      models_[m]->forward(tokens, batch.length, states_[m]);
      report(batch.first);
    }
  }

  void read_heads(const Batch& batch) {
    predictions_.clear();
    for (std::size_t w = batch.first; w < batch.last; ++w) {
      const auto& window = windows_[w].tokens;
      for (std::size_t p = windows_[w].first; p < window.size(); ++p) {
        gather(predictions_.size(), (w - batch.first) * batch.length + p - 1);
        predictions_.push_back({w, p, window[p]});
        if (predictions_.size() == tile_rows_) flush(batch);
      }
    }
    flush(batch);
  }

  // What the head reads at a row of the batch moves to a row of the tile.
  void gather(std::size_t tile_row, std::size_t batch_row) {
    for (std::size_t m = 0; m < models_.size(); ++m) {
      std::copy_n(states_[m].row(batch_row), states_[m].cols(), inputs_[m].row(tile_row));
    }
  }

  void flush(const Batch& batch) {
    if (predictions_.empty()) return;
    const std::size_t rows = predictions_.size();
    std::vector<MatrixView<const float>> views;
    for (std::size_t m = 0; m < models_.size(); ++m) {
      const auto logits = logits_[m].view().row_range(0, rows);
      models_[m]->head(inputs_[m].view().row_range(0, rows), logits);
      views.emplace_back(logits);
    }
    body_(predictions_, views);
    predictions_.clear();
    report(batch.first);
  }

  std::span<LanguageModel* const> models_;
  const std::vector<EvalWindow>& windows_;
  const EvalOptions& options_;
  const TileBody& body_;
  std::size_t tile_rows_ = 0;
  std::vector<Prediction> predictions_;
  std::vector<Matrix<float>> states_;           // per model: (tokens of the batch, hidden)
  std::vector<Matrix<float>> inputs_, logits_;  // per model: a tile
};

}  // namespace

void stream_logits(std::span<LanguageModel* const> models, const std::vector<EvalWindow>& windows,
                   const EvalOptions& options, const TileBody& body) {
  NEAP_CHECK(!models.empty());
  for (const EvalWindow& window : windows) {
    NEAP_CHECK(window.first >= 1 && window.first < window.tokens.size());
  }
  Streamer(models, windows, options, body).run();
}

}  // namespace neap
