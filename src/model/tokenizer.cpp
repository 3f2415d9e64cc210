#include "neap/tokenizer.h"

#include <algorithm>
#include <filesystem>

#include "io/json.h"
#include "model/bpe.h"
#include "model/tokenizer_gguf.h"
#include "model/tokenizer_json.h"
#include "model/tokenizer_settings.h"
#include "model/utf8.h"
#include "neap/checkpoint.h"
#include "neap/error.h"

namespace neap {
namespace {

// Below this many bytes few words come twice.
constexpr std::size_t kWorthACache = 512;
constexpr std::string_view kMetaspace = "\xE2\x96\x81";

std::string read_if_there(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored) ? read_text_file(path) : std::string();
}

// Cuts [span) before each U+2581 that follows something else, and calls word(part).
template <class Word>
void for_each_metaspace_word(std::string_view text, const Word& word) {
  std::size_t begin = 0;
  for (std::size_t at = text.find(kMetaspace); at != text.npos;
       at = text.find(kMetaspace, at + kMetaspace.size())) {
    const bool in_run = at >= begin + kMetaspace.size() &&
                        text.substr(at - kMetaspace.size(), kMetaspace.size()) == kMetaspace;
    if (at == begin || in_run) continue;
    word(text.substr(begin, at - begin));
    begin = at;
  }
  word(text.substr(begin));
}

}  // namespace

struct Tokenizer::Impl {
  TokenizerParts parts;
  TokenizerSettings settings;
  std::vector<bool> special;  // by id

  Impl(TokenizerParts parts_, TokenizerSettings settings_)
      : parts(std::move(parts_)), settings(std::move(settings_)) {
    special.resize(static_cast<std::size_t>(parts.vocabulary->size()));
    for (const AddedToken& token : parts.added) {
      if (token.special) special[static_cast<std::size_t>(token.id)] = true;
    }
    if (parts.has_post_processor) return;
    if (settings.add_bos && settings.bos) parts.prefix = {*settings.bos};
    if (settings.add_eos && !settings.eos.empty()) parts.suffix = {settings.eos.front()};
  }

  static std::shared_ptr<const Impl> from_files(std::string_view tokenizer_json,
                                                const std::string& file,
                                                const SettingsFiles& files) {
    const Json json = parse_json(tokenizer_json, file);
    const std::string config_file = files.folder + "tokenizer_config.json";
    const Json config = files.tokenizer_config.empty()
                            ? Json::object()
                            : parse_json(files.tokenizer_config, config_file);
    const JsonNode config_node(config, config_file);
    TokenizerParts read = read_tokenizer_json(JsonNode(json, file), &config_node);
    TokenizerSettings around = read_settings(files, *read.vocabulary);
    return std::make_shared<const Impl>(std::move(read), std::move(around));
  }

  void encode_words(std::string_view text, bool first, WordCache* cache,
                    std::vector<TokenId>& ids) const {
    Words words;
    pre_tokenize(parts.pre_tokenizers, text, first, words);
    for (const Span& span : words.spans) {
      const std::string_view word = words.text.substr(span.begin, span.end - span.begin);
      if (parts.bpe->separable()) {
        for_each_metaspace_word(
            word, [&](std::string_view part) { parts.bpe->encode(part, ids, cache); });
      } else {
        parts.bpe->encode(word, ids, cache);
      }
    }
  }

  // A piece between added tokens that are looked for in the text as it is.
  void encode_raw(std::string_view text, bool first, WordCache* cache,
                  std::vector<TokenId>& ids) const {
    std::string storage;
    if (!parts.normalizers.empty()) text = storage = normalize(parts.normalizers, text);
    std::vector<AddedTokenMatcher::Piece> pieces;
    parts.normalized_matcher.split(text, pieces);
    for (const auto& [span, id] : pieces) {
      if (id != AddedTokenMatcher::Piece::kText) {
        ids.push_back(id);
      } else {
        encode_words(text.substr(span.begin, span.end - span.begin), first && span.begin == 0,
                     cache, ids);
      }
    }
  }

  std::vector<TokenId> encode(std::string_view text, bool add_special) const {
    std::string storage;
    text = make_valid_utf8(text, storage);
    std::optional<WordCache> cache;
    if (text.size() >= kWorthACache) cache.emplace();
    std::vector<TokenId> ids;
    if (add_special) ids = parts.prefix;
    std::vector<AddedTokenMatcher::Piece> pieces;
    parts.raw_matcher.split(text, pieces);
    for (const auto& [span, id] : pieces) {
      if (id != AddedTokenMatcher::Piece::kText) {
        ids.push_back(id);
      } else {
        encode_raw(text.substr(span.begin, span.end - span.begin), span.begin == 0,
                   cache ? &*cache : nullptr, ids);
      }
    }
    if (add_special) ids.insert(ids.end(), parts.suffix.begin(), parts.suffix.end());
    return ids;
  }
};

Tokenizer::Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Tokenizer Tokenizer::open(const Checkpoint& checkpoint) {
  if (checkpoint.gguf() != nullptr) {
    const GgufTokenizer gguf = read_gguf_tokenizer(*checkpoint.gguf());
    const Json json = tokenizer_json_of(gguf);
    TokenizerParts parts = read_tokenizer_json(JsonNode(json, gguf.file));
    TokenizerSettings settings;
    settings.bos = gguf.bos;
    settings.eos = gguf.ends;
    settings.chat_template = gguf.chat_template;
    const Json config = tokenizer_config_json_of(gguf);
    for (const char* name : {"bos_token", "eos_token", "unk_token"}) {
      if (config[name].is_string()) settings.named_tokens.emplace_back(name, config[name]);
    }
    return Tokenizer(std::make_shared<const Impl>(std::move(parts), std::move(settings)));
  }
  const std::string folder = checkpoint.folder() + "/", file = folder + "tokenizer.json";
  SettingsFiles files;
  files.folder = folder;
  files.tokenizer_config = read_if_there(folder + "tokenizer_config.json");
  files.special_tokens_map = read_if_there(folder + "special_tokens_map.json");
  files.generation_config = read_if_there(folder + "generation_config.json");
  files.config = checkpoint.config_json();
  files.chat_template = read_if_there(folder + "chat_template.jinja");
  return Tokenizer(Impl::from_files(read_text_file(file), file, files));
}

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json, const std::string& file,
                               std::string_view tokenizer_config_json) {
  SettingsFiles files;
  files.tokenizer_config = tokenizer_config_json;
  return Tokenizer(Impl::from_files(tokenizer_json, file, files));
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, bool add_special) const {
  return impl_->encode(text, add_special);
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  const TokenizerParts& parts = impl_->parts;
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const TokenId id : ids) {
    const auto normalized = parts.normalized_texts.find(id);
    if (normalized != parts.normalized_texts.end()) {
      tokens.push_back(normalized->second);
    } else if (parts.vocabulary->has(id) && !(skip_special && is_special(id))) {
      tokens.push_back(parts.vocabulary->text(id));
    }
  }
  return decode_tokens(parts.decoders, std::move(tokens));
}

std::int32_t Tokenizer::size() const { return impl_->parts.vocabulary->size(); }
std::string Tokenizer::token(TokenId id) const { return impl_->parts.vocabulary->text(id); }
std::optional<TokenId> Tokenizer::id(std::string_view token) const {
  return impl_->parts.vocabulary->find(token);
}
bool Tokenizer::is_special(TokenId id) const {
  return id >= 0 && id < size() && impl_->special[static_cast<std::size_t>(id)];
}
std::optional<TokenId> Tokenizer::bos() const { return impl_->settings.bos; }
const std::vector<TokenId>& Tokenizer::eos() const { return impl_->settings.eos; }
bool Tokenizer::adds_bos() const {
  const std::vector<TokenId>& prefix = impl_->parts.prefix;
  return !prefix.empty() && impl_->settings.bos && prefix.front() == *impl_->settings.bos;
}
const std::string& Tokenizer::chat_template() const { return impl_->settings.chat_template; }
const std::vector<std::pair<std::string, std::string>>& Tokenizer::named_tokens() const {
  return impl_->settings.named_tokens;
}

}  // namespace neap
