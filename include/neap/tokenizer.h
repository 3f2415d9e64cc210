// Text to token ids and back, id for id what the `tokenizers` package gives.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace neap {

class Checkpoint;

using TokenId = std::int32_t;

class Tokenizer {
 public:
  // From tokenizer.json beside a Hugging Face checkpoint (tokenizer_config.json, special_tokens_map.json,
  // generation_config.json, config.json and chat_template.jinja fill in what it lacks), or from a
  // GGUF's metadata. add_bos_token and add_eos_token count only where tokenizer.json has no
  // post-processor, as in transformers 5.
  // Throws Error(io | format | unsupported), naming the key that cannot be honoured.
  static Tokenizer open(const Checkpoint& checkpoint);
  // From the text of a tokenizer.json; `file` names it in errors.
  static Tokenizer from_json(std::string_view tokenizer_json, const std::string& file,
                             std::string_view tokenizer_config_json = {});

  // Invalid UTF-8 becomes U+FFFD exactly as Python's errors="replace". Special tokens written in the
  // text are recognised, as `tokenizers` does. add_special: put the template's start token (and end
  // token, where the tokenizer has one) around it. Safe to call from several threads.
  std::vector<TokenId> encode(std::string_view text, bool add_special = true) const;
  // Bytes, valid UTF-8 except where the tokens themselves cut a character (`tokenizers` has U+FFFD
  // there). Ids without a token give nothing.
  std::string decode(std::span<const TokenId> ids, bool skip_special = true) const;

  std::int32_t size() const;                 // one more than the largest id
  std::string token(TokenId id) const;       // as the vocabulary writes it; empty for a hole
  std::optional<TokenId> id(std::string_view token) const;
  bool is_special(TokenId id) const;
  std::optional<TokenId> bos() const;        // what generation from nothing starts with
  const std::vector<TokenId>& eos() const;   // any of them ends a generation
  bool adds_bos() const;                     // whether encode(.., true) begins with bos()
  const std::string& chat_template() const;  // Jinja source as shipped, or empty
  // "bos_token", "eos_token", ... with their texts, where the files name them: what a chat template
  // sees under these names.
  const std::vector<std::pair<std::string, std::string>>& named_tokens() const;

 private:
  struct Impl;
  explicit Tokenizer(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

struct ChatMessage {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

// One conversation as the model's own template writes it (or `chat_template`, if that is not empty), equal to transformers' apply_chat_template
// (tokenize=False), today being always 26 July 2024. Throws Error(unsupported) if there is no template
// or it uses what is not implemented (it is never rendered nearly right), Error(data) if the template
// itself refuses the conversation. The result already holds the start token where the family has one:
// encode it with add_special = false.
std::string render_chat(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                        bool add_generation_prompt, const std::string& chat_template = {});

}  // namespace neap
