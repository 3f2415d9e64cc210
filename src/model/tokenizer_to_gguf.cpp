// A Hugging Face tokenizer as tokenizer.* metadata: the inverse of tokenizer_gguf.cpp, and held against it.
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <unordered_map>

#include "model/tokenizer_gguf.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::int64_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6;

using Merges = std::vector<std::pair<std::string, std::string>>;

[[noreturn]] void unsupported(const GgufTokenizer& gguf, const std::string& key, const std::string& why) {
  throw Error(ErrorCode::unsupported, why, {.file = gguf.file, .tensor = key});
}

// "left right", or [left, right] in newer files; the tokenizer has been opened, so one of them it is.
Merges merges_of(const Json& list) {
  Merges merges;
  for (const Json& merge : list) {
    if (merge.is_array()) {
      merges.emplace_back(merge.at(0).get<std::string>(), merge.at(1).get<std::string>());
      continue;
    }
    const auto both = merge.get<std::string>();
    const std::size_t space = both.find(' ');
    merges.emplace_back(both.substr(0, space), both.substr(space + 1));
  }
  return merges;
}

// "<0x0A>" and its like.
bool is_byte_token(const std::string& text) {
  int value = 0;
  if (text.size() != 6 || !text.starts_with("<0x") || text.back() != '>') return false;
  const auto [end, error] = std::from_chars(text.data() + 3, text.data() + 5, value, 16);
  return error == std::errc() && end == text.data() + 5;
}

void set_tokens(const Tokenizer& tokenizer, std::int64_t vocabulary, GgufTokenizer& gguf) {
  if (tokenizer.size() > vocabulary) {
    throw Error(ErrorCode::format, "more tokens than the model has rows for",
                {.file = gguf.file,
                 .expected = std::to_string(vocabulary) + " at most",
                 .found = std::to_string(tokenizer.size())});
  }
  for (std::int64_t id = 0; id < vocabulary; ++id) {
    std::string text = id < tokenizer.size() ? tokenizer.token(static_cast<TokenId>(id)) : std::string();
    const bool hole = text.empty();
    gguf.tokens.push_back(hole ? "[PAD" + std::to_string(id) + "]" : std::move(text));
    gguf.types.push_back(hole                                              ? kUnused
                         : tokenizer.is_special(static_cast<TokenId>(id)) ? kControl
                                                                          : kNormal);
  }
}

void set_types(const Json& root, GgufTokenizer& gguf) {
  for (const Json& token : root.value("added_tokens", Json::array())) {
    const auto id = token.at("id").get<std::size_t>();
    if (id < gguf.types.size() && gguf.types[id] == kNormal) gguf.types[id] = kUserDefined;
  }
  if (gguf.unknown) gguf.types[static_cast<std::size_t>(*gguf.unknown)] = kUnknown;
  if (gguf.model != "llama") return;
  for (std::size_t id = 0; id < gguf.tokens.size(); ++id) {
    if (is_byte_token(gguf.tokens[id])) gguf.types[id] = kByte;
  }
}

// SentencePiece has scores where tokenizer.json has a list: the earlier a piece is first made, the higher. Pieces that
// nothing makes come after all others.
void set_scores(const Merges& merges, GgufTokenizer& gguf) {
  std::unordered_map<std::string, float> made;
  for (const auto& [left, right] : merges) made.emplace(left + right, -static_cast<float>(made.size()));
  for (std::size_t id = 0; id < gguf.tokens.size(); ++id) {
    const auto found = made.find(gguf.tokens[id]);
    const bool piece = gguf.types[id] == kNormal || gguf.types[id] == kUserDefined;
    gguf.scores.push_back(found != made.end() ? found->second : piece ? -static_cast<float>(made.size()) : 0);
  }
}

// What a reader of the metadata would merge is what the source merges.
void check_merges(Merges source, const GgufTokenizer& gguf) {
  Merges read = merges_of(tokenizer_json_of(gguf).at("model").at("merges"));
  if (gguf.model == "llama") {
    // Ways to make one piece may stand in another order, pieces may not.
    const auto pieces = [](const Merges& merges) {
      std::vector<std::string> made;
      for (const auto& [left, right] : merges) {
        if (made.empty() || made.back() != left + right) made.push_back(left + right);
      }
      return made;
    };
    if (pieces(source) != pieces(read)) unsupported(gguf, "model.merges", "no scores give the order of these merges");
    std::sort(source.begin(), source.end());
    std::sort(read.begin(), read.end());
  }
  if (source != read) unsupported(gguf, "model.merges", "llama.cpp would merge otherwise");
}

std::optional<TokenId> named(const Tokenizer& tokenizer, const char* name) {
  for (const auto& [key, text] : tokenizer.named_tokens()) {
    if (key == name) return tokenizer.id(text);
  }
  return {};
}

void set_special(const Tokenizer& tokenizer, const Json& model, GgufTokenizer& gguf) {
  gguf.bos = tokenizer.bos();
  gguf.ends = tokenizer.eos();
  const Json unknown = model.value("unk_token", Json());
  if (unknown.is_string()) gguf.unknown = tokenizer.id(unknown.get<std::string>());
  gguf.padding = named(tokenizer, "pad_token");
  // What stands around a text in fact, whatever the files call it.
  const std::vector<TokenId> bare = tokenizer.encode("a", /*add_special=*/false), whole = tokenizer.encode("a");
  const auto text = std::search(whole.begin(), whole.end(), bare.begin(), bare.end());
  const std::size_t before = static_cast<std::size_t>(text - whole.begin()), after = whole.size() - before - bare.size();
  if (text == whole.end() || before > 1 || after > 1) unsupported(gguf, "post_processor", "llama.cpp puts one token before and one after a text at most");
  gguf.add_bos = before == 1;
  if (gguf.add_bos) gguf.bos = whole.front();
  gguf.add_eos = after == 1;
  if (gguf.add_eos) {
    std::erase(gguf.ends, whole.back());
    gguf.ends.insert(gguf.ends.begin(), whole.back());
  }
  gguf.chat_template = tokenizer.chat_template();
}

// Whether a text begins with a space that it does not have, as SentencePiece has it.
bool adds_space_prefix(const Tokenizer& tokenizer) {
  const std::vector<TokenId> ids = tokenizer.encode("a", /*add_special=*/false);
  return !ids.empty() && tokenizer.token(ids.front()).starts_with("\xE2\x96\x81");
}

}  // namespace

GgufTokenizer gguf_tokenizer_of(const Checkpoint& checkpoint, std::int64_t vocabulary) {
  const Tokenizer tokenizer = Tokenizer::open(checkpoint);
  GgufTokenizer gguf;
  gguf.file = checkpoint.folder() + "/tokenizer.json";
  const Json root = parse_json(read_text_file(gguf.file), gguf.file);
  const Json& model = root.at("model");
  const JsonNode node(root, gguf.file);
  const auto byte_fallback = node.at("model").find("byte_fallback");
  gguf.model = byte_fallback && byte_fallback->boolean() ? "llama" : "gpt2";
  const Merges merges = merges_of(model.at("merges"));
  if (gguf.model == "gpt2") {
    const auto pre = pre_name_of(node);
    if (!pre) unsupported(gguf, "pre_tokenizer", "llama.cpp has no name for this way to cut text into words");
    gguf.pre = *pre;
    for (const auto& [left, right] : merges) gguf.merges.push_back(left + " " + right);
  } else {
    gguf.pre = "default";
    gguf.add_space_prefix = adds_space_prefix(tokenizer);
  }
  set_tokens(tokenizer, vocabulary, gguf);
  set_special(tokenizer, model, gguf);
  set_types(root, gguf);
  if (gguf.model == "llama") set_scores(merges, gguf);
  check_merges(merges, gguf);
  return gguf;
}

GgufMetadata metadata_of(const GgufTokenizer& gguf) {
  const bool llama = gguf.model == "llama";
  const auto id = [](TokenId token) { return static_cast<std::uint32_t>(token); };
  GgufMetadata pairs = {{"tokenizer.ggml.model", gguf.model},
                        {"tokenizer.ggml.pre", gguf.pre},
                        {"tokenizer.ggml.tokens", gguf.tokens},
                        {"tokenizer.ggml.token_type", std::vector<std::int32_t>(gguf.types.begin(), gguf.types.end())}};
  if (llama) pairs.emplace_back("tokenizer.ggml.scores", gguf.scores);
  if (!llama) pairs.emplace_back("tokenizer.ggml.merges", gguf.merges);
  if (gguf.bos) pairs.emplace_back("tokenizer.ggml.bos_token_id", id(*gguf.bos));
  constexpr const char* kEnds[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                   "tokenizer.ggml.eom_token_id"};
  for (std::size_t i = 0; i < std::min(gguf.ends.size(), std::size(kEnds)); ++i) {
    pairs.emplace_back(kEnds[i], id(gguf.ends[i]));
  }
  if (gguf.unknown) pairs.emplace_back("tokenizer.ggml.unknown_token_id", id(*gguf.unknown));
  if (gguf.padding) pairs.emplace_back("tokenizer.ggml.padding_token_id", id(*gguf.padding));
  pairs.emplace_back("tokenizer.ggml.add_bos_token", gguf.add_bos);
  pairs.emplace_back("tokenizer.ggml.add_eos_token", gguf.add_eos);
  if (llama) pairs.emplace_back("tokenizer.ggml.add_space_prefix", gguf.add_space_prefix);
  if (!gguf.chat_template.empty()) pairs.emplace_back("tokenizer.chat_template", gguf.chat_template);
  return pairs;
}

}  // namespace neap
