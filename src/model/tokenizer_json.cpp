#include "model/tokenizer_json.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "neap/error.h"

namespace neap {
namespace {

[[noreturn]] void unsupported(const JsonNode& node, const std::string& what) {
  throw Error(
      ErrorCode::unsupported, what,
      {.file = node.file(), .tensor = node.path(), .offset = {}, .expected = {}, .found = {}});
}

bool boolean(const JsonNode& node, std::string_view key) {
  const auto found = node.find(key);
  return found && found->boolean();
}

// Null, false or an empty text.
void refuse_if_set(const JsonNode& node, std::string_view key) {
  const auto found = node.find(key);
  if (!found) return;
  const Json& value = found->value();
  const bool off = (value.is_string() && value.get_ref<const std::string&>().empty()) ||
                   (value.is_number() && value.get<double>() == 0);
  if (!off) unsupported(*found, "this BPE option is not implemented");
}

// Hundreds of thousands of entries: paths are only made where something is wrong.
void read_vocabulary(const JsonNode& node, Vocabulary& vocabulary) {
  if (!node.value().is_object()) node.fail("bad value", "an object");
  for (const auto& [text, value] : node.value().items()) {
    const JsonNode entry(value, node.file(), node.path() + "." + text);
    const auto id = static_cast<TokenId>(entry.integer(0, Vocabulary::kMaxId));
    if (!vocabulary.add(text, id)) entry.fail("another token has this id");
  }
}

// "left right", or [left, right] in newer files.
std::pair<std::string_view, std::string_view> read_pair(const Json& value) {
  const auto text = [](const Json& part) {
    return part.is_string() ? std::string_view(part.get_ref<const std::string&>())
                            : std::string_view();
  };
  if (value.is_array()) {
    if (value.size() != 2) return {};
    return {text(value[0]), text(value[1])};
  }
  const std::string_view both = text(value);
  const std::size_t space = both.find(' ');
  if (space == both.npos || both.find(' ', space + 1) != both.npos) return {};
  return {both.substr(0, space), both.substr(space + 1)};
}

std::vector<Merge> read_merges(const JsonNode& node, const Vocabulary& vocabulary) {
  std::vector<Merge> merges;
  merges.reserve(node.size());
  std::string joined;
  for (std::size_t i = 0; i < node.size(); ++i) {
    const auto [left, right] = read_pair(node.value()[i]);
    if (left.empty() || right.empty()) node[i].fail("bad merge", "two tokens");
    joined.assign(left).append(right);
    const auto a = vocabulary.find(left), b = vocabulary.find(right), c = vocabulary.find(joined);
    if (!a || !b || !c) node[i].fail("a token of this merge is not in the vocabulary");
    merges.push_back({*a, *b, *c});
  }
  return merges;
}

BpeOptions read_options(const JsonNode& model, const Vocabulary& vocabulary, bool byte_level) {
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    refuse_if_set(model, key);
  }
  BpeOptions options;
  options.byte_level = byte_level;
  options.fuse_unknown = boolean(model, "fuse_unk");
  options.byte_fallback = boolean(model, "byte_fallback");
  options.ignore_merges = boolean(model, "ignore_merges");
  if (const auto unknown = model.find("unk_token")) {
    options.unknown = vocabulary.find(unknown->string());
    if (!options.unknown) unknown->fail("not in the vocabulary");
  }
  return options;
}

AddedToken read_added_token(const JsonNode& node, TokenId id) {
  AddedToken token;
  token.content = node.at("content").string();
  token.id = id;
  token.single_word = boolean(node, "single_word");
  token.left_strip = boolean(node, "lstrip");
  token.right_strip = boolean(node, "rstrip");
  token.special = boolean(node, "special");
  const auto normalized = node.find("normalized");
  token.normalized = normalized ? normalized->boolean() : !token.special;
  if (token.content.empty()) node.at("content").fail("empty", "a text");
  return token;
}

class AddedTokens {
 public:
  AddedTokens(Vocabulary& vocabulary, std::vector<AddedToken>& tokens)
      : vocabulary_(vocabulary), tokens_(tokens) {}

  // A later token with the same id goes before an earlier one.
  void add(const JsonNode& node, AddedToken token) {
    if (!vocabulary_.add(token.content, token.id)) {
      node.fail("the vocabulary has another id for this token, or another token there");
    }
    const auto [place, fresh] = places_.emplace(token.id, tokens_.size());
    if (fresh) {
      tokens_.push_back(std::move(token));
    } else {
      tokens_[place->second] = std::move(token);
    }
  }

  // [{"id": .., "content": .., flags}]
  void read_list(const JsonNode& list) {
    for (std::size_t i = 0; i < list.size(); ++i) {
      const JsonNode node = list[i];
      const auto id = static_cast<TokenId>(node.at("id").integer(0, Vocabulary::kMaxId));
      add(node.at("id"), read_added_token(node, id));
    }
  }

  // {"ID": {"content": .., flags}}
  void read_decoder(const JsonNode& map) {
    if (!map.value().is_object()) map.fail("bad value", "an object");
    for (const auto& [key, value] : map.value().items()) {
      const JsonNode node(value, map.file(), map.path() + "." + key);
      TokenId id = -1;
      const char* const last = key.data() + key.size();
      const auto [end, error] = std::from_chars(key.data(), last, id);
      if (error != std::errc() || end != last || id < 0 || id > Vocabulary::kMaxId) {
        node.fail("bad key", "a token id");
      }
      add(node, read_added_token(node, id));
    }
  }

 private:
  Vocabulary& vocabulary_;
  std::vector<AddedToken>& tokens_;
  std::unordered_map<TokenId, std::size_t> places_;  // in tokens_
};

void build_matchers(TokenizerParts& parts) {
  std::vector<std::pair<std::string, AddedToken>> raw, normalized;
  for (const AddedToken& token : parts.added) {
    if (token.normalized) {
      const std::string text = normalize(parts.normalizers, token.content);
      if (text != token.content) parts.normalized_texts[token.id] = text;
      normalized.emplace_back(text, token);
    } else {
      raw.emplace_back(token.content, token);
    }
  }
  parts.raw_matcher = AddedTokenMatcher(std::move(raw));
  parts.normalized_matcher = AddedTokenMatcher(std::move(normalized));
}

// "single" of a TemplateProcessing: special tokens around exactly one sequence A.
void read_template(const JsonNode& node, const Vocabulary& vocabulary, TokenizerParts& parts) {
  const JsonNode single = node.at("single");
  bool seen = false;
  for (std::size_t i = 0; i < single.size(); ++i) {
    if (const auto sequence = single[i].find("Sequence")) {
      if (seen || sequence->at("id").string() != "A") unsupported(*sequence, "a second sequence");
      seen = true;
      continue;
    }
    const JsonNode name = single[i].at("SpecialToken").at("id");
    const JsonNode ids = node.at("special_tokens").at(name.string()).at("ids");
    for (std::size_t k = 0; k < ids.size(); ++k) {
      const auto id = static_cast<TokenId>(ids[k].integer(0, Vocabulary::kMaxId));
      if (!vocabulary.has(id)) ids[k].fail("no such token");
      (seen ? parts.suffix : parts.prefix).push_back(id);
    }
  }
  if (!seen) single.fail("no sequence in the template");
}

void read_post_processor(const JsonNode& node, const Vocabulary& vocabulary,
                         TokenizerParts& parts) {
  const std::string& type = node.at("type").string();
  if (type == "Sequence") {
    const JsonNode list = node.at("processors");
    for (std::size_t i = 0; i < list.size(); ++i) read_post_processor(list[i], vocabulary, parts);
  } else if (type == "TemplateProcessing") {
    if (!parts.prefix.empty() || !parts.suffix.empty()) unsupported(node, "a second template");
    read_template(node, vocabulary, parts);
  } else if (type != "ByteLevel") {  // which moves offsets only
    unsupported(node.at("type"), "there is no post-processor '" + type + "' here");
  }
}

}  // namespace

TokenizerParts read_tokenizer_json(const JsonNode& root, const JsonNode* config) {
  if (const auto version = root.find("version"); version && version->string() != "1.0") {
    unsupported(*version, "another version of tokenizer.json");
  }
  TokenizerParts parts;
  bool byte_level = false;
  if (const auto node = root.find("normalizer")) parts.normalizers = read_normalizer(*node);
  if (const auto node = root.find("pre_tokenizer")) {
    parts.pre_tokenizers = read_pre_tokenizer(*node, byte_level);
  }
  if (const auto node = root.find("decoder")) parts.decoders = read_decoder(*node);

  const JsonNode model = root.at("model");
  // Files of before 2021 do not name the type.
  if (const auto type = model.find("type"); type && type->string() != "BPE") {
    unsupported(*type, "there is no tokenizer model '" + type->string() + "' here");
  }
  auto vocabulary = std::make_shared<Vocabulary>();
  read_vocabulary(model.at("vocab"), *vocabulary);
  const std::vector<Merge> merges = read_merges(model.at("merges"), *vocabulary);
  const BpeOptions options = read_options(model, *vocabulary, byte_level);
  // Only now: BPE itself does not know the added tokens.
  auto bpe_vocabulary = std::make_shared<const Vocabulary>(*vocabulary);
  parts.bpe = std::make_shared<const Bpe>(bpe_vocabulary, merges, options);
  AddedTokens added(*vocabulary, parts.added);
  if (const auto list = root.find("added_tokens")) added.read_list(*list);
  if (config != nullptr) {
    if (const auto map = config->find("added_tokens_decoder")) added.read_decoder(*map);
  }
  build_matchers(parts);
  parts.vocabulary = std::move(vocabulary);
  if (const auto node = root.find("post_processor")) {
    parts.has_post_processor = true;
    read_post_processor(*node, *parts.vocabulary, parts);
  }
  return parts;
}

}  // namespace neap
