// The log-probabilities of a model as `llama-perplexity --kl-divergence-base` writes and reads them, so that one of
// llama.cpp's models can be measured against one that ran here. Source: tools/perplexity of llama.cpp.
//
//   "_logits_" | u32 tokens a window | i32 vocabulary | i32 windows | i32 ids of all windows
//   for each predicted token { f32 scale; f32 least; u16 steps[vocabulary], and one more if that is odd }
//   log-probability = least + scale steps, at least that of the likeliest less 16
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "eval/logit_stream.h"
#include "io/writer.h"
#include "neap/matrix.h"

namespace neap {

class LogitFile {
 public:
  // windows: those that will be predicted, as make_eval_windows has them with PerplexityMode::llamacpp. Reserves all
  // space under a temporary name beside `path`. Throws Error(argument) for other windows, Error(io).
  LogitFile(std::string path, const std::vector<EvalWindow>& windows, std::size_t vocabulary);
  // Without finish() before it, removes everything again.
  ~LogitFile();
  LogitFile(const LogitFile&) = delete;
  LogitFile& operator=(const LogitFile&) = delete;

  // The logits after the next tokens, in the order of the windows: (any, vocabulary). Finite.
  void add(MatrixView<const float> logits);
  // Syncs, and gives the file its name. NEAP_CHECKs that no token is missing.
  void finish();

 private:
  std::string path_, temporary_;
  std::size_t row_bytes_;
  std::uint64_t position_ = 0, size_ = 0;
  std::optional<OutputFile> file_;
};

}  // namespace neap
