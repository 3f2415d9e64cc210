// Where windows begin and what is scored in them. The llamacpp mode follows tools/perplexity of
// llama.cpp (n_ctx tokens a chunk, logits from n_ctx / 2 on, n_ctx - n_ctx / 2 - 1 predictions).
#include <algorithm>

#include "neap/error.h"
#include "neap/eval.h"

namespace neap {

PerplexityMode perplexity_mode_from_name(const std::string& name) {
  for (const PerplexityMode mode : {PerplexityMode::gptq, PerplexityMode::llamacpp}) {
    if (name == name_of(mode)) return mode;
  }
  throw Error(ErrorCode::argument, "unknown perplexity mode",
              {.expected = "gptq or llamacpp", .found = name});
}

std::string name_of(PerplexityMode mode) {
  return mode == PerplexityMode::gptq ? "gptq" : "llamacpp";
}

EvalWindows make_eval_windows(const TokenWindows& text, const Tokenizer& tokenizer,
                              PerplexityMode mode, std::int64_t length, std::int64_t limit) {
  const bool second_half = mode == PerplexityMode::llamacpp;
  const std::int64_t least = second_half ? 3 : 2;
  if (length < least) {
    throw Error(ErrorCode::argument, "a window of this length predicts nothing",
                {.expected = "at least " + std::to_string(least), .found = std::to_string(length)});
  }
  EvalWindows result;
  std::size_t found = 0;
  for (const auto& tokens : text.windows) {
    found += tokens.size();
    if (limit > 0 && static_cast<std::int64_t>(result.windows.size()) == limit) break;
    if (static_cast<std::int64_t>(tokens.size()) < length) {
      result.dropped += static_cast<std::int64_t>(tokens.size());
      continue;
    }
    EvalWindow window{tokens, second_half ? tokens.size() / 2 + 1 : 1};
    if (second_half && tokenizer.adds_bos()) window.tokens[0] = tokenizer.bos().value();
    result.windows.push_back(std::move(window));
  }
  if (result.windows.empty()) {
    throw Error(ErrorCode::data, "the text is too short for a window",
                {.expected = std::to_string(length) + " tokens",
                 .found = std::to_string(found)});
  }
  return result;
}

}  // namespace neap
