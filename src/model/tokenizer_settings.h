// What stands around a tokenizer.json: which tokens begin and end a text, and the chat template.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/json.h"
#include "model/bpe.h"
#include "neap/tokenizer.h"

namespace neap {

struct TokenizerSettings {
  std::optional<TokenId> bos;
  std::vector<TokenId> eos;
  bool add_bos = false, add_eos = false;  // asked for, should tokenizer.json have no post-processor
  std::string chat_template;
  // "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
  // each where tokenizer_config or special_tokens_map names it.
  std::vector<std::pair<std::string, std::string>> named_tokens;
};

// The texts of the files that have a say, empty where there is none.
struct SettingsFiles {
  std::string folder;  // for error messages, with a slash at its end
  std::string tokenizer_config, special_tokens_map, generation_config, config, chat_template;
};

// As transformers decides: the ends of a generation are generation_config's, else config's, else
// the tokenizer's own; a chat_template.jinja goes before tokenizer_config's template; of several
// named templates, "default". Throws Error(format), also for a start or end token that the
// vocabulary lacks.
TokenizerSettings read_settings(const SettingsFiles& files, const Vocabulary& vocabulary);

}  // namespace neap
