// The smallest tokenizer that is one: <unk> 0, <s> 1, </s> 2, then a token for each byte, 259 in all (the
// vocabulary of the models in tests/golden), and a few merges.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "neap/tokenizer.h"

namespace neap::test {

// How GPT-2's byte-level BPE writes a byte: printable ones as they are, the others from U+0100 on.
inline std::string byte_symbol(int byte) {
  const auto printable = [](int b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
  };
  int code = byte;
  if (!printable(byte)) {
    code = 0x100;
    for (int b = 0; b < byte; ++b) code += printable(b) ? 0 : 1;
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

// The text of a tokenizer.json. add_bos: encode() begins with <s>. merges: pairs of printable ASCII
// letters ("a b") that become tokens 259, 260, ...
inline std::string byte_tokenizer_json(bool add_bos, const std::vector<std::string>& merges = {}) {
  using Json = nlohmann::json;
  Json vocabulary = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int b = 0; b < 256; ++b) vocabulary[byte_symbol(b)] = 3 + b;
  for (const std::string& merge : merges) {
    vocabulary[merge.substr(0, 1) + merge.substr(2)] = vocabulary.size();
  }
  Json added = Json::array();
  for (int id = 0; id < 3; ++id) {
    const char* names[] = {"<unk>", "<s>", "</s>"};
    added.push_back({{"id", id}, {"content", names[id]}, {"single_word", false}, {"lstrip", false},
                     {"rstrip", false}, {"normalized", false}, {"special", true}});
  }
  const Json bos = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const Json a = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const Json b = {{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
  const Json post = {{"type", "TemplateProcessing"},
                     {"single", {bos, a}},
                     {"pair", {bos, a, b}},
                     {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {1}}, {"tokens", {"<s>"}}}}}}};
  const Json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false},
                           {"trim_offsets", true}, {"use_regex", true}};
  return Json{{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", added},
              {"normalizer", nullptr},
              {"pre_tokenizer", byte_level},
              {"post_processor", add_bos ? post : Json()},
              {"decoder", byte_level},
              {"model",
               {{"type", "BPE"}, {"dropout", nullptr}, {"unk_token", nullptr},
                {"continuing_subword_prefix", nullptr}, {"end_of_word_suffix", nullptr},
                {"fuse_unk", false}, {"byte_fallback", false}, {"ignore_merges", false},
                {"vocab", vocabulary}, {"merges", merges}}}}
      .dump();
}

inline Tokenizer byte_tokenizer(bool add_bos, const std::vector<std::string>& merges = {}) {
  return Tokenizer::from_json(byte_tokenizer_json(add_bos, merges), "tokenizer.json",
                              R"({"bos_token": "<s>", "eos_token": "</s>"})");
}

}  // namespace neap::test
