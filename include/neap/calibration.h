// Calibration text: token windows from files, or text that the model writes itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "neap/model.h"
#include "neap/progress.h"
#include "neap/tokenizer.h"

namespace neap {

// Windows of tokens, each run from position 0. All are `length` long except, perhaps, the last: no
// token is dropped.
struct TokenWindows {
  std::vector<std::vector<TokenId>> windows;
  struct Source {
    std::string name;        // file, or what generated it
    std::string hash;        // XXH3-64 of the file's bytes (hex); of the ids if generated
    std::int64_t tokens = 0;
  };
  std::vector<Source> sources;

  std::int64_t tokens() const;
  std::size_t longest() const;  // of the windows, in tokens; 0 without any
};

// Files are told apart by name: *.jsonl has one object a line, {"text": ...}, {"messages": [{"role",
// "content"}, ...]} (through the family's chat template, without a second start token) or {"ids": [...]}
// (a window of its own, taken as it is); anything else is plain text. Every plain text and every line
// begins with the start token where the tokenizer adds one. Documents are packed one after another and
// cut every `length` tokens.
// samples: take this many windows, 0: all. Throws Error(data) if there are fewer, or no token at all;
// Error(format) naming file and line.
TokenWindows read_windows(const std::vector<std::string>& files, const Tokenizer& tokenizer,
                          std::int64_t samples, std::int64_t length);

// The two sets never share a random stream: what is judged was not solved on.
enum class SelfTextPart { calibration, evaluation };

// `samples` windows of `length` tokens that `model` writes from its start token, at temperature 1. The
// n-th window is the same whatever `samples` is. threads: 0: OpenMP's default.
TokenWindows write_windows(LanguageModel& model, const Tokenizer& tokenizer, SelfTextPart part,
                           std::int64_t samples, std::int64_t length, std::uint64_t seed,
                           const ProgressCallback& progress = {}, int threads = 0);

// One {"ids": [...]} a line: what read_windows takes back. Whole or absent.
void save_windows(const TokenWindows& windows, const std::string& path);

}  // namespace neap
