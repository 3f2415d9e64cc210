// tokenizer.json, read into the parts that encode and decode. A component, or a value of one, that
// is not known here is Error(unsupported) with its path in the file: nothing is skipped.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "io/json.h"
#include "model/bpe.h"
#include "model/tokenizer_added.h"
#include "model/tokenizer_components.h"

namespace neap {

struct TokenizerParts {
  std::shared_ptr<const Vocabulary> vocabulary;  // of the model and of the added tokens
  std::shared_ptr<const Bpe> bpe;
  std::vector<AddedToken> added;
  // Added tokens that normalization changes: what they decode from, and special ones are then not
  // skipped (so does `tokenizers`).
  std::unordered_map<TokenId, std::string> normalized_texts;
  AddedTokenMatcher raw_matcher, normalized_matcher;
  std::vector<NormalizerStep> normalizers;
  std::vector<PreTokenizerStep> pre_tokenizers;
  std::vector<DecoderStep> decoders;
  std::vector<TokenId> prefix, suffix;  // what post-processing puts around a text
  bool has_post_processor = false;
};

// `truncation` and `padding` are passed over, as transformers does: they are a caller's settings.
// config: null, or the root of tokenizer_config.json, whose added_tokens_decoder adds to the added
// tokens and, where it gives other flags, goes before them.
TokenizerParts read_tokenizer_json(const JsonNode& root, const JsonNode* config = nullptr);

// Steps from the single component at `node` (or the list of a "Sequence").
std::vector<NormalizerStep> read_normalizer(const JsonNode& node);
std::vector<DecoderStep> read_decoder(const JsonNode& node);
// byte_level: set if words are to be seen as bytes in GPT-2's alphabet.
std::vector<PreTokenizerStep> read_pre_tokenizer(const JsonNode& node, bool& byte_level);

}  // namespace neap
