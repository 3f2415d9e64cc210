// The parts that tokenizer.json names: normalizers, pre-tokenizers and decoders, each a list of
// steps.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/pretokenize.h"

namespace neap {

struct NormalizerStep {
  enum class Kind { nfc, prepend, replace };
  Kind kind;
  std::string content = {};                     // what is put before, or instead
  std::shared_ptr<const Pattern> pattern = {};  // what is replaced
};

// text: valid UTF-8. Nothing is put before an empty text.
std::string normalize(const std::vector<NormalizerStep>& steps, std::string_view text);

struct PreTokenizerStep {
  enum class Kind {
    split,         // by pattern
    prefix_space,  // ByteLevel's add_prefix_space: each word begins with a space
    metaspace,     // spaces become `replacement`, and one is put before by `prepend`
  };
  enum class Prepend { always, first, never };

  Kind kind;
  std::shared_ptr<const Pattern> pattern = {};
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;
  std::string replacement = {};
  Prepend prepend = Prepend::always;
};

// A text cut into words. The text is the caller's, or `storage` where a step had to change it.
struct Words {
  std::string storage = {};
  std::string_view text = {};
  std::vector<Span> spans = {};
};

// first: `text` stands at the very beginning of what is encoded. The result refers to `text` or to
// itself: do not move it.
void pre_tokenize(const std::vector<PreTokenizerStep>& steps, std::string_view text, bool first,
                  Words& words);

struct DecoderStep {
  enum class Kind {
    byte_level,     // GPT-2's alphabet back to bytes
    byte_fallback,  // tokens "<0x41>" back to bytes
    fuse,           // one text
    replace,        // `pattern` by `content`
    strip,          // up to `start` and `stop` times `content` (one character) off a token's ends
    metaspace,      // `content` to a space, or to nothing in the first token
  };
  Kind kind;
  std::string content = {};
  std::shared_ptr<const Pattern> pattern = {};
  std::size_t start = 0, stop = 0;
  bool drop_first = false;  // metaspace
};

// The text of tokens in sequence: the steps, one after another on all tokens, then joined; with no
// steps, joined by spaces, as `tokenizers` does.
std::string decode_tokens(const std::vector<DecoderStep>& steps, std::vector<std::string> tokens);

}  // namespace neap
