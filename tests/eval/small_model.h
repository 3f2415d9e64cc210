// A language model small enough to be checked by hand: the state after a token is a decayed sum of the
// embeddings so far (so it depends on all that stands before, and on nothing after), the head is a
// random matrix.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <vector>

#include "neap/error.h"
#include "neap/model.h"

namespace neap::testing {

class SmallModel : public LanguageModel {
 public:
  SmallModel(std::int64_t vocabulary, std::int64_t hidden, unsigned seed, float scale = 1) {
    config_.vocabulary = vocabulary;
    config_.hidden = hidden;
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal(0, scale);
    embedding_ = Matrix<float>(static_cast<std::size_t>(vocabulary), static_cast<std::size_t>(hidden));
    head_ = embedding_;
    for (std::size_t i = 0; i < embedding_.rows() * embedding_.cols(); ++i) {
      embedding_.data()[i] = normal(generator);
      head_.data()[i] = normal(generator);
    }
  }

  const ModelConfig& config() const override { return config_; }

  void forward(std::span<const TokenId> tokens, std::size_t length,
               MatrixView<float> states) override {
    ++passes;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const auto token = static_cast<std::size_t>(tokens[i]);
      if (tokens[i] < 0 || token >= embedding_.rows()) throw Error(ErrorCode::argument, "token");
      for (std::size_t c = 0; c < states.cols; ++c) {
        const float before = i % length == 0 ? 0 : states(i - 1, c);
        states(i, c) = 0.5f * before + embedding_(token, c);
      }
    }
  }

  void head(MatrixView<const float> states, MatrixView<float> logits) override {
    for (std::size_t r = 0; r < states.rows; ++r) {
      for (std::size_t v = 0; v < logits.cols; ++v) {
        float sum = 0;
        for (std::size_t c = 0; c < states.cols; ++c) sum += states(r, c) * head_(v, c);
        logits(r, v) = sum;
      }
    }
    if (spoil) spoil(logits);
  }

  // All logits of one window, rows in order.
  Matrix<float> logits(const std::vector<TokenId>& tokens) {
    Matrix<float> states(tokens.size(), static_cast<std::size_t>(config_.hidden));
    Matrix<float> out(tokens.size(), static_cast<std::size_t>(config_.vocabulary));
    forward(tokens, tokens.size(), states);
    head(states, out);
    return out;
  }

  int passes = 0;
  std::function<void(MatrixView<float>)> spoil;  // changes what the head gives

 private:
  ModelConfig config_;
  Matrix<float> embedding_, head_;
};

inline std::vector<TokenId> random_tokens(std::size_t count, std::int64_t vocabulary, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<TokenId> tokens(count);
  for (TokenId& t : tokens) t = static_cast<TokenId>(generator() % static_cast<unsigned>(vocabulary));
  return tokens;
}

}  // namespace neap::testing
