#include "model/tokenizer_gguf.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "model/bpe.h"
#include "model/pretokenize.h"
#include "model/utf8.h"
#include "neap/error.h"

namespace neap {
namespace {

constexpr std::int64_t kUnknown = 2, kControl = 3, kUserDefined = 4, kByte = 6;
// SentencePiece's own limit is 16 characters by default. All ways to cut a token in two are tried.
constexpr std::size_t kLongestToken = 1024;

const std::string kMetaspace = "\xE2\x96\x81";
const std::string kTekkenRegex =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const std::string kO200kRegex =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

[[noreturn]] void fail(ErrorCode code, const GgufTokenizer& gguf, const std::string& key,
                       const std::string& message) {
  throw Error(code, message,
              {.file = gguf.file, .tensor = key, .offset = {}, .expected = {}, .found = {}});
}

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json split(const std::string& regex) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", regex}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

Json sequence(const char* key, Json parts) {
  return {{"type", "Sequence"}, {key, std::move(parts)}};
}

// What a value of tokenizer.ggml.pre stands for.
struct Pre {
  Json normalizer = nullptr;
  Json pre_tokenizer;
  bool ignore_merges = false;
  bool add_bos = false;  // unless the file says otherwise
};

Pre split_by(const std::string& regex, bool ignore_merges, bool add_bos) {
  return {.pre_tokenizer = sequence("pretokenizers", {split(regex), byte_level(false)}),
          .ignore_merges = ignore_merges,
          .add_bos = add_bos};
}

std::optional<Pre> find_pre(const std::string& name) {
  const auto is = [&](std::initializer_list<const char*> names) {
    return std::any_of(names.begin(), names.end(), [&](const char* n) { return name == n; });
  };
  if (is({"gpt-2", "phi-2"})) return Pre{.pre_tokenizer = byte_level(true)};
  if (is({"llama-bpe", "llama3", "llama-v3"}))
    return split_by(std::string(kLlama3Regex), true, true);
  if (is({"smaug-bpe"})) return split_by(std::string(kLlama3Regex), false, false);
  if (is({"qwen2", "deepseek-r1-qwen"})) {
    Pre pre = split_by(std::string(kQwen2Regex), false, false);
    pre.normalizer = {{"type", "NFC"}};
    return pre;
  }
  if (is({"smollm", "starcoder", "refact"})) {
    const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
    return Pre{.pre_tokenizer = sequence("pretokenizers", {digits, byte_level(true)})};
  }
  if (is({"tekken"})) return split_by(kTekkenRegex, true, true);
  if (is({"gpt-4o"})) return split_by(kO200kRegex, false, false);
  return std::nullopt;
}

Pre pre_of(const GgufTokenizer& gguf) {
  if (gguf.pre.empty() || gguf.pre == "default") {
    fail(ErrorCode::unsupported, gguf, "tokenizer.ggml.pre",
         "the file does not say how its tokenizer cuts text into words: convert the model anew");
  }
  auto pre = find_pre(gguf.pre);
  if (!pre) {
    fail(ErrorCode::unsupported, gguf, "tokenizer.ggml.pre",
         "there is no pre-tokenizer '" + gguf.pre + "' here");
  }
  return *std::move(pre);
}

// Null is absence, as it is to the tokenizer itself.
bool boolean(const JsonNode& node, std::string_view key, bool otherwise) {
  const auto found = node.find(key);
  return found ? found->boolean() : otherwise;
}

// The same for two texts that mean the same: defaults spelled out, what does not change ids left out, a sequence of
// one taken for its part.
Json plain_pre_tokenizer(const JsonNode& pre) {
  const std::string& type = pre.at("type").string();
  Json plain = pre.value();
  plain.erase("trim_offsets");
  if (type == "ByteLevel") {
    plain["use_regex"] = boolean(pre, "use_regex", true);
    plain["add_prefix_space"] = boolean(pre, "add_prefix_space", true);
  }
  if (type != "Sequence") return plain;
  const JsonNode list = pre.at("pretokenizers");
  Json parts = Json::array();
  for (std::size_t i = 0; i < list.size(); ++i) parts.push_back(plain_pre_tokenizer(list[i]));
  if (parts.size() == 1) return parts[0];
  plain["pretokenizers"] = std::move(parts);
  return plain;
}

std::int64_t type_of(const GgufTokenizer& gguf, std::size_t id) {
  if (!gguf.types.empty()) return gguf.types[id];
  const auto token = static_cast<TokenId>(id);
  if (gguf.unknown == token) return kUnknown;
  const bool end = std::find(gguf.ends.begin(), gguf.ends.end(), token) != gguf.ends.end();
  return end || gguf.bos == token ? kControl : 1;
}

Json vocabulary_of(const GgufTokenizer& gguf) {
  Json vocabulary = Json::object();
  for (std::size_t id = 0; id < gguf.tokens.size(); ++id) {
    if (!gguf.tokens[id].empty()) vocabulary[gguf.tokens[id]] = id;
  }
  return vocabulary;
}

Json added_tokens_of(const GgufTokenizer& gguf) {
  Json added = Json::array();
  for (std::size_t id = 0; id < gguf.tokens.size(); ++id) {
    const std::int64_t type = type_of(gguf, id);
    if (gguf.tokens[id].empty() || (type != kUnknown && type != kControl && type != kUserDefined)) {
      continue;
    }
    added.push_back({{"id", id},
                     {"content", gguf.tokens[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", type != kUserDefined}});
  }
  return added;
}

// SentencePiece merges whatever makes a piece of the highest score; tokenizer.json wants a list.
// Where a piece can be made in several ways, the ways stand in the order of transformers'
// converter: higher scores of the parts first. (SentencePiece would take the leftmost; only runs of
// one character can tell the difference.)
Json merges_of_scores(const GgufTokenizer& gguf) {
  std::unordered_map<std::string_view, float> pieces;
  const auto is_piece = [&](std::size_t id) {
    const std::int64_t type = type_of(gguf, id);
    return !gguf.tokens[id].empty() && type != kUnknown && type != kControl && type != kByte;
  };
  for (std::size_t id = 0; id < gguf.tokens.size(); ++id) {
    if (is_piece(id)) pieces.emplace(gguf.tokens[id], gguf.scores[id]);
  }
  using Way =
      std::tuple<float, float, std::string_view, std::string_view>;  // scores, then the parts
  std::vector<std::pair<float, Way>> merges;
  for (std::size_t id = 0; id < gguf.tokens.size(); ++id) {
    const std::string_view text = gguf.tokens[id];
    if (!is_piece(id)) continue;
    if (text.size() > kLongestToken) {
      fail(ErrorCode::unsupported, gguf, "tokenizer.ggml.tokens",
           "token " + std::to_string(id) + " is longer than 1024 bytes");
    }
    std::vector<Way> ways;
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      const auto left = pieces.find(text.substr(0, cut)), right = pieces.find(text.substr(cut));
      if (left == pieces.end() || right == pieces.end()) continue;
      ways.emplace_back(left->second, right->second, left->first, right->first);
    }
    std::stable_sort(ways.begin(), ways.end(), [](const Way& a, const Way& b) {
      return std::pair(std::get<0>(a), std::get<1>(a)) > std::pair(std::get<0>(b), std::get<1>(b));
    });
    for (const Way& way : ways) merges.emplace_back(gguf.scores[id], way);
  }
  std::stable_sort(merges.begin(), merges.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  Json list = Json::array();
  for (const auto& [score, way] : merges) list.push_back({std::get<2>(way), std::get<3>(way)});
  return list;
}

Json post_processor_of(const GgufTokenizer& gguf) {
  const bool bos = gguf.add_bos && gguf.bos, eos = gguf.add_eos && !gguf.ends.empty();
  if (!bos && !eos && gguf.model == "gpt2") return byte_level(true);
  Json single = Json::array(), special = Json::object();
  const auto add = [&](TokenId id) {
    const std::string& text = gguf.tokens[static_cast<std::size_t>(id)];
    single.push_back({{"SpecialToken", {{"id", text}, {"type_id", 0}}}});
    special[text] = {{"id", text}, {"ids", {id}}, {"tokens", {text}}};
  };
  if (bos) add(*gguf.bos);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  if (eos) add(gguf.ends.front());
  Json pair = single;  // the second text gets the same, as its own kind
  for (Json part : single) {
    part.begin().value()["type_id"] = 1;
    if (part.contains("Sequence")) part["Sequence"]["id"] = "B";
    pair.push_back(std::move(part));
  }
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"pair", std::move(pair)},
          {"special_tokens", std::move(special)}};
}

Json model_of(const GgufTokenizer& gguf, Json merges, bool llama, bool ignore_merges) {
  Json unknown = nullptr;
  if (gguf.unknown) unknown = gguf.tokens[static_cast<std::size_t>(*gguf.unknown)];
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", std::move(unknown)},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", gguf.unknown.has_value()},
          {"byte_fallback", llama},
          {"ignore_merges", ignore_merges},
          {"vocab", vocabulary_of(gguf)},
          {"merges", std::move(merges)}};
}

Json replace(const std::string& from, const std::string& to) {
  return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}

Json sentencepiece_normalizer(bool prefix) {
  Json steps = Json::array();
  if (prefix) steps.push_back({{"type", "Prepend"}, {"prepend", kMetaspace}});
  steps.push_back(replace(" ", kMetaspace));
  return sequence("normalizers", std::move(steps));
}

Json sentencepiece_decoder(bool prefix) {
  Json steps =
      Json::array({replace(kMetaspace, " "), {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
  if (prefix) steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return sequence("decoders", std::move(steps));
}

std::optional<TokenId> read_id(const GgufFile& file, const GgufTokenizer& gguf, const char* key) {
  if (!file.has(key)) return std::nullopt;
  const std::int64_t id = file.integer(key);
  if (id < 0 || id >= static_cast<std::int64_t>(gguf.tokens.size())) {
    fail(ErrorCode::format, gguf, key, "no such token: " + std::to_string(id));
  }
  return static_cast<TokenId>(id);
}

void check(const GgufTokenizer& gguf) {
  if (gguf.model != "gpt2" && gguf.model != "llama") {
    fail(ErrorCode::unsupported, gguf, "tokenizer.ggml.model",
         "there is no tokenizer model '" + gguf.model + "' here");
  }
  const auto per_token = [&](std::size_t count, const char* key) {
    if (count != gguf.tokens.size()) fail(ErrorCode::format, gguf, key, "not one value per token");
  };
  if (gguf.tokens.size() > static_cast<std::size_t>(Vocabulary::kMaxId)) {
    fail(ErrorCode::unsupported, gguf, "tokenizer.ggml.tokens", "too many tokens");
  }
  if (!gguf.types.empty()) per_token(gguf.types.size(), "tokenizer.ggml.token_type");
  if (gguf.model == "llama") per_token(gguf.scores.size(), "tokenizer.ggml.scores");
  for (const std::string& token : gguf.tokens) {
    if (!is_valid_utf8(token)) {
      fail(ErrorCode::format, gguf, "tokenizer.ggml.tokens", "a token is not valid UTF-8");
    }
  }
  for (const float score : gguf.scores) {
    if (score != score)
      fail(ErrorCode::format, gguf, "tokenizer.ggml.scores", "a score is not a number");
  }
}

}  // namespace

std::optional<std::string> pre_name_of(const JsonNode& tokenizer_json) {
  const auto pre_tokenizer = tokenizer_json.find("pre_tokenizer");
  if (!pre_tokenizer) return {};
  const Json asked = plain_pre_tokenizer(*pre_tokenizer);
  const bool ignore_merges = boolean(tokenizer_json.at("model"), "ignore_merges", false);
  const auto normalizer = tokenizer_json.find("normalizer");
  for (const char* name : {"gpt-2", "llama-bpe", "smaug-bpe", "qwen2", "smollm", "tekken", "gpt-4o"}) {
    const Pre pre = *find_pre(name);
    const bool same_text = !normalizer || normalizer->value() == pre.normalizer;
    const JsonNode known(pre.pre_tokenizer, name);
    if (same_text && pre.ignore_merges == ignore_merges && plain_pre_tokenizer(known) == asked) return name;
  }
  return {};
}

GgufTokenizer read_gguf_tokenizer(const GgufFile& file) {
  GgufTokenizer gguf;
  gguf.file = file.path();
  gguf.model = file.string("tokenizer.ggml.model");
  gguf.pre = file.string("tokenizer.ggml.pre", "");
  gguf.tokens = file.strings("tokenizer.ggml.tokens");
  if (file.has("tokenizer.ggml.token_type"))
    gguf.types = file.integers("tokenizer.ggml.token_type");
  if (file.has("tokenizer.ggml.scores")) gguf.scores = file.floats("tokenizer.ggml.scores");
  if (gguf.model == "gpt2") gguf.merges = file.strings("tokenizer.ggml.merges");
  check(gguf);
  gguf.bos = read_id(file, gguf, "tokenizer.ggml.bos_token_id");
  gguf.unknown = read_id(file, gguf, "tokenizer.ggml.unknown_token_id");
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                          "tokenizer.ggml.eom_token_id"}) {
    const auto id = read_id(file, gguf, key);
    const bool known = id && std::find(gguf.ends.begin(), gguf.ends.end(), *id) != gguf.ends.end();
    if (id && !known) gguf.ends.push_back(*id);
  }
  const bool adds = gguf.model == "llama" || pre_of(gguf).add_bos;
  gguf.add_bos = file.boolean("tokenizer.ggml.add_bos_token", adds);
  gguf.add_eos = file.boolean("tokenizer.ggml.add_eos_token", false);
  gguf.add_space_prefix = file.boolean("tokenizer.ggml.add_space_prefix", true);
  gguf.chat_template = file.string("tokenizer.chat_template", "");
  return gguf;
}

Json tokenizer_json_of(const GgufTokenizer& gguf) {
  const bool llama = gguf.model == "llama";
  const Pre pre = llama ? Pre{} : pre_of(gguf);
  Json merges = llama ? merges_of_scores(gguf) : Json(gguf.merges);
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added_tokens_of(gguf)},
          {"normalizer", llama ? sentencepiece_normalizer(gguf.add_space_prefix) : pre.normalizer},
          {"pre_tokenizer", pre.pre_tokenizer},
          {"post_processor", post_processor_of(gguf)},
          {"decoder", llama ? sentencepiece_decoder(gguf.add_space_prefix) : byte_level(true)},
          {"model", model_of(gguf, std::move(merges), llama, pre.ignore_merges)}};
}

Json tokenizer_config_json_of(const GgufTokenizer& gguf) {
  const auto text = [&](std::optional<TokenId> id) {
    return id ? Json(gguf.tokens[static_cast<std::size_t>(*id)]) : Json(nullptr);
  };
  Json config = {
      {"tokenizer_class", "PreTrainedTokenizerFast"},
      {"bos_token", text(gguf.bos)},
      {"eos_token", text(gguf.ends.empty() ? std::nullopt : std::optional(gguf.ends[0]))},
      {"unk_token", text(gguf.unknown)},
      {"add_bos_token", gguf.add_bos},
      {"add_eos_token", gguf.add_eos},
      {"clean_up_tokenization_spaces", false}};
  if (!gguf.chat_template.empty()) config["chat_template"] = gguf.chat_template;
  return config;
}

Json generation_config_json_of(const GgufTokenizer& gguf) {
  Json config = Json::object();
  if (gguf.bos) config["bos_token_id"] = *gguf.bos;
  if (gguf.ends.size() == 1) config["eos_token_id"] = gguf.ends.front();
  if (gguf.ends.size() > 1) config["eos_token_id"] = gguf.ends;
  return config;
}

}  // namespace neap
