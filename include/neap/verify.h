// Whether a model's files are whole and mean what they should, and how far they are from the model that they were
// made from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "neap/checkpoint.h"
#include "neap/eval.h"
#include "neap/progress.h"

namespace neap {

struct VerifyOptions {
  std::string text = {};      // what both models predict; empty: a page that Neap brings
  std::int64_t tokens = 512;  // of it, at most; 0: no prediction
  double max_kl = 0;          // nats; more is an error, and so is nothing to measure it on; 0: any will do
  int threads = 0;            // 0: OpenMP's default
  ProgressCallback progress = {};
};

struct VerifyReport {
  // ||W^ - W||^2 / ||W||^2 against the source.
  struct Layer {
    std::string module;
    double error = 0;
  };
  struct Kind {
    std::string name;  // "q_proj", "embed_tokens"
    std::int64_t tensors = 0;
    double mean = 0;   // over the tensors
    Layer worst;
  };
  std::int64_t tensors = 0;    // decoded, every value finite
  std::int64_t quantized = 0;  // of them in a packed format or a block type
  std::uint64_t bytes = 0;
  bool hashes = false;         // every tensor's bytes, and the configuration, are those that were exported
  std::vector<Kind> kinds;     // with a source whose weights compare: quantized matrices
  std::vector<Layer> worst;    // the worst few of all, worst first
  std::int64_t predicted = 0;  // tokens
  double perplexity = 0;       // of them, if any
  std::optional<Divergence> divergence;  // with a source
  std::vector<std::string> notes;        // what was not checked, and why
  double seconds = 0;

  std::string to_json() const;
};

// Opens nothing itself, but reads all of `output`: that each tensor that the configuration asks for is there in its
// shape, and none besides; that each decodes to finite numbers; where Neap's report lies beside it, that each has the
// bytes that were written. Against `source`, if not null: that the configurations describe the same model, that the
// tokenizers agree, that what is stored dense is what the source has, and that no quantized matrix is further from the
// source's than zero would be (a note only, where the bytes are known to be those that were written). Then predicts some
// text with both. Memory: one block of each model. Throws Error naming file and tensor for the first thing that is wrong.
VerifyReport verify(const Checkpoint& output, const Checkpoint* source, const VerifyOptions& options = {});

// Where Neap's report on an output lies: quantization_report.json in a folder, NAME.gguf.report.json beside a single
// file. The file need not be there.
std::string report_path(const Checkpoint& output);

}  // namespace neap
