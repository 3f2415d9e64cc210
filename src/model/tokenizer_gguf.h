// A GGUF's tokenizer as the Hugging Face files that say the same, so that there is one way to read
// a tokenizer, and a model exported from a GGUF carries the files that transformers wants.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/gguf.h"
#include "io/gguf_writer.h"
#include "io/json.h"
#include "neap/checkpoint.h"
#include "neap/tokenizer.h"

namespace neap {

// The tokenizer.* metadata.
struct GgufTokenizer {
  std::string file;   // for error messages
  std::string model;  // "gpt2": byte-level BPE; "llama": SentencePiece's BPE
  std::string pre;    // gpt2: name of the split
  std::vector<std::string> tokens;
  std::vector<std::int64_t> types;  // per token, or empty: 1 normal, 2 unknown, 3 control,
                                    // 4 user-defined, 5 unused, 6 byte
  std::vector<float> scores;        // llama: per token; of two merges the higher score goes first
  std::vector<std::string> merges;  // gpt2: "left right", first merged first
  std::optional<TokenId> bos, unknown, padding;
  std::vector<TokenId> ends;  // eos, then eot and eom, where given
  bool add_bos = false, add_eos = false;
  bool add_space_prefix = true;
  std::string chat_template;
};

// The inverse: from tokenizer.json and its companions beside a Hugging Face checkpoint, with `vocabulary` tokens,
// those that the tokenizer lacks as unused ones. Throws Error(unsupported) for a tokenizer that llama.cpp has no
// name for (a split of its own, a normalizer that it leaves out), or whose merges do not follow from scores;
// Error(format) if it has more tokens than the vocabulary.
GgufTokenizer gguf_tokenizer_of(const Checkpoint& checkpoint, std::int64_t vocabulary);
// As tokenizer.* metadata.
GgufMetadata metadata_of(const GgufTokenizer& gguf);

// Throws Error(format) or Error(unsupported), naming the key.
GgufTokenizer read_gguf_tokenizer(const GgufFile& file);

// The name in tokenizer.ggml.pre of the split that a tokenizer.json asks for, or nothing.
std::optional<std::string> pre_name_of(const JsonNode& tokenizer_json);

// Splits that are known: those whose expressions the models' own tokenizer.json files have. Of
// these follow, where llama.cpp simplified an expression, the originals; and for Qwen2 also its
// NFC, which llama.cpp leaves out. Throws Error(unsupported) for any other.
Json tokenizer_json_of(const GgufTokenizer& gguf);
// bos_token, eos_token, unk_token, chat_template and what transformers asks for beside them.
Json tokenizer_config_json_of(const GgufTokenizer& gguf);
// bos_token_id, eos_token_id.
Json generation_config_json_of(const GgufTokenizer& gguf);

}  // namespace neap
