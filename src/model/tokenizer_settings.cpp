#include "model/tokenizer_settings.h"

namespace neap {
namespace {

// A JSON file with its name; an empty one holds nothing.
class Document {
 public:
  Document(const std::string& text, std::string name)
      : json_(text.empty() ? Json::object() : parse_json(text, name)),
        root_(json_, std::move(name)) {}
  Document(const Document&) = delete;
  Document& operator=(const Document&) = delete;
  const JsonNode& root() const { return root_; }

 private:
  Json json_;
  JsonNode root_;
};

// "bos_token": a text, or an object with its "content".
std::optional<JsonNode> token_text(const JsonNode& root, std::string_view key) {
  const auto node = root.find(key);
  if (!node) return std::nullopt;
  return node->value().is_object() ? node->at("content") : *node;
}

std::optional<TokenId> named_token(const JsonNode& root, std::string_view key,
                                   const Vocabulary& vocabulary) {
  const auto text = token_text(root, key);
  if (!text) return std::nullopt;
  const auto id = vocabulary.find(text->string());
  if (!id) text->fail("not in the vocabulary");
  return id;
}

std::vector<std::pair<std::string, std::string>> read_named_tokens(const JsonNode& config,
                                                                   const JsonNode& map) {
  std::vector<std::pair<std::string, std::string>> names;
  for (const char* name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                           "cls_token", "mask_token"}) {
    auto text = token_text(config, name);
    if (!text) text = token_text(map, name);
    if (text) names.emplace_back(name, text->string());
  }
  return names;
}

// "eos_token_id": one, or a list.
std::vector<TokenId> token_ids(const JsonNode& root, std::string_view key) {
  const auto node = root.find(key);
  if (!node) return {};
  const auto id = [](const JsonNode& n) {
    return static_cast<TokenId>(n.integer(0, Vocabulary::kMaxId));
  };
  if (!node->value().is_array()) return {id(*node)};
  std::vector<TokenId> ids;
  for (std::size_t i = 0; i < node->size(); ++i) ids.push_back(id((*node)[i]));
  return ids;
}

bool boolean(const JsonNode& root, std::string_view key) {
  const auto node = root.find(key);
  return node && node->boolean();
}

// A text, or a list of {"name": .., "template": ..}.
std::string read_template(const JsonNode& root) {
  const auto node = root.find("chat_template");
  if (!node) return {};
  if (!node->value().is_array()) return node->string();
  for (std::size_t i = 0; i < node->size(); ++i) {
    const JsonNode entry = (*node)[i];
    if (entry.at("name").string() == "default") return entry.at("template").string();
  }
  return {};
}

}  // namespace

TokenizerSettings read_settings(const SettingsFiles& files, const Vocabulary& vocabulary) {
  const Document tokenizer(files.tokenizer_config, files.folder + "tokenizer_config.json");
  const Document map(files.special_tokens_map, files.folder + "special_tokens_map.json");
  const Document generation(files.generation_config, files.folder + "generation_config.json");
  const Document config(files.config, files.folder + "config.json");

  TokenizerSettings settings;
  for (const Document* file : {&tokenizer, &map}) {
    if (!settings.bos) settings.bos = named_token(file->root(), "bos_token", vocabulary);
  }
  for (const Document* file : {&generation, &config}) {
    const auto bos = token_ids(file->root(), "bos_token_id");
    if (!settings.bos && !bos.empty()) settings.bos = bos.front();
    if (settings.eos.empty()) settings.eos = token_ids(file->root(), "eos_token_id");
  }
  for (const Document* file : {&tokenizer, &map}) {
    if (!settings.eos.empty()) break;
    if (const auto eos = named_token(file->root(), "eos_token", vocabulary)) settings.eos = {*eos};
  }
  settings.named_tokens = read_named_tokens(tokenizer.root(), map.root());
  settings.add_bos = boolean(tokenizer.root(), "add_bos_token");
  settings.add_eos = boolean(tokenizer.root(), "add_eos_token");
  settings.chat_template =
      files.chat_template.empty() ? read_template(tokenizer.root()) : files.chat_template;
  return settings;
}

}  // namespace neap
