// Whole tokenizers against golden files of the `tokenizers` package
// (tests/golden/make_tokenizer_goldens.py), and what the files around a tokenizer.json decide.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "io/json.h"
#include "model/tokenizer_gguf.h"
#include "model/utf8.h"
#include "neap/checkpoint.h"
#include "neap/error.h"
#include "neap/tokenizer.h"

namespace neap {
namespace {

const std::string kGoldens = std::string(NEAP_GOLDEN_DIR) + "/tokenizers/";

// Little-endian fields of the golden files.
class Fields {
 public:
  explicit Fields(const std::string& path) : bytes_(read_text_file(path)) {}
  std::uint32_t u32() {
    std::uint32_t value = 0;
    std::memcpy(&value, take(4).data(), 4);
    return value;
  }
  std::vector<TokenId> ids() {
    std::vector<TokenId> values(u32());
    for (TokenId& value : values) {
      std::uint16_t narrow = 0;
      std::memcpy(&narrow, take(2).data(), 2);
      value = narrow;
    }
    return values;
  }
  // Nothing where the length is 0xFFFFFFFF.
  std::optional<std::string> text() {
    const std::uint32_t length = u32();
    if (length == 0xFFFFFFFF) return std::nullopt;
    return std::string(take(length));
  }

 private:
  std::string_view take(std::size_t count) {
    at_ += count;
    return std::string_view(bytes_).substr(at_ - count, count);
  }
  std::string bytes_;
  std::size_t at_ = 0;
};

std::string repaired(std::string_view text) {
  std::string storage;
  return std::string(make_valid_utf8(text, storage));
}

Tokenizer open_golden(const std::string& file) {
  if (file.ends_with(".gguf")) return Tokenizer::open(Checkpoint::open(kGoldens + file));
  return Tokenizer::from_json(read_text_file(kGoldens + file), file);
}

std::vector<TokenId> join(std::vector<TokenId> a, const std::vector<TokenId>& b,
                          const std::vector<TokenId>& c) {
  a.insert(a.end(), b.begin(), b.end());
  a.insert(a.end(), c.begin(), c.end());
  return a;
}

void expect_golden(const Tokenizer& tokenizer, const std::string& name) {
  Fields golden(kGoldens + name + ".ids");
  Fields shared(kGoldens + "texts");
  const std::vector<TokenId> before = golden.ids(), after = golden.ids();
  const std::uint32_t count = golden.u32();
  ASSERT_GT(count, shared.u32());
  for (std::uint32_t i = 0; i < count; ++i) {
    auto text = golden.text();
    if (!text) text = shared.text();
    const std::vector<TokenId> ids = golden.ids();
    const std::string decoded = golden.text().value_or(repaired(*text));
    ASSERT_EQ(tokenizer.encode(*text, /*add_special=*/false), ids) << i << ": " << *text;
    ASSERT_EQ(tokenizer.encode(*text), join(before, ids, after)) << i << ": " << *text;
    ASSERT_EQ(repaired(tokenizer.decode(ids, /*skip_special=*/false)), decoded)
        << i << ": " << *text;
  }
}

class Golden : public testing::TestWithParam<std::string> {};

TEST_P(Golden, IdsAndTextEqualThoseOfTokenizers) {
  expect_golden(open_golden(GetParam()), GetParam().substr(0, GetParam().find('.')));
}

// Where NEAP_TEST_MODELS names a folder that has the model.
TEST(SmolLm2, IdsAndTextEqualThoseOfTokenizers) {
  const char* folder = std::getenv("NEAP_TEST_MODELS");
  const std::string model = std::string(folder != nullptr ? folder : "") + "/smollm2.gguf";
  if (!std::filesystem::exists(model)) GTEST_SKIP() << "NEAP_TEST_MODELS has no smollm2.gguf";
  const Tokenizer tokenizer = Tokenizer::open(Checkpoint::open(model));
  expect_golden(tokenizer, "smollm2_real");
  EXPECT_EQ(tokenizer.bos(), 1);
  EXPECT_EQ(tokenizer.eos(), (std::vector<TokenId>{2}));
  EXPECT_FALSE(tokenizer.adds_bos());
  const ChatMessage message{"user", "Hi"};
  EXPECT_EQ(render_chat(tokenizer, {&message, 1}, true),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
            "Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, Golden,
                         testing::Values("gpt2.tokenizer.json", "smollm2.tokenizer.json",
                                         "llama3.tokenizer.json", "qwen2.tokenizer.json",
                                         "tekken.tokenizer.json", "o200k.tokenizer.json",
                                         "deepseek.tokenizer.json", "odd_flags.tokenizer.json",
                                         "behaviours.tokenizer.json", "llama2.tokenizer.json",
                                         "mistral.tokenizer.json", "metaspace_split.tokenizer.json",
                                         "metaspace_never.tokenizer.json",
                                         "without_bytes.tokenizer.json", "smollm2.gguf",
                                         "llama3.gguf", "qwen2.gguf", "tekken.gguf", "llama2.gguf"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return c == '.'; }, '_');
                           return name;
                         });

TEST(Tokenizer, ThreadsShareOneTokenizer) {
  const Tokenizer tokenizer = open_golden("llama2.tokenizer.json");
  const std::string text = read_text_file(kGoldens + "texts");
  const std::vector<TokenId> expected = tokenizer.encode(text);
  std::vector<std::vector<TokenId>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) threads.emplace_back([&] { result = tokenizer.encode(text); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, expected);
}

TEST(Tokenizer, SpecialTokensAreSkippedInDecodingWhereAsked) {
  const Tokenizer tokenizer = open_golden("llama3.tokenizer.json");
  const std::string text = "<|start_header_id|>user<|end_header_id|>\n\nHi";
  const std::vector<TokenId> ids = tokenizer.encode(text);
  EXPECT_EQ(tokenizer.decode(ids), "user\n\nHi");
  EXPECT_EQ(tokenizer.decode(ids, false), "<|begin_of_text|>" + text);
  EXPECT_TRUE(tokenizer.is_special(*tokenizer.id("<|eot_id|>")));
  EXPECT_FALSE(tokenizer.is_special(*tokenizer.id("a")));
  EXPECT_FALSE(tokenizer.is_special(-1));
  EXPECT_FALSE(tokenizer.is_special(tokenizer.size()));
  EXPECT_EQ(tokenizer.token(*tokenizer.id("<|eot_id|>")), "<|eot_id|>");
  EXPECT_EQ(tokenizer.token(tokenizer.size()), "");
  EXPECT_EQ(tokenizer.id("no such token"), std::nullopt);
}

TEST(Tokenizer, DecodingKeepsTheBytesOfACutCharacter) {
  const Tokenizer tokenizer = open_golden("llama2.tokenizer.json");
  const std::vector<TokenId> ids = {*tokenizer.id("<0xF0>"), *tokenizer.id("<0x9F>")};
  EXPECT_EQ(tokenizer.decode(ids), "\xF0\x9F");
}

// A checkpoint's folder with a tokenizer.json and what the test puts beside it.
class Folder {
 public:
  explicit Folder(const std::string& tokenizer) {
    path_ = testing::TempDir() + "/neap_tokenizer_" +
            testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(path_);
    std::filesystem::copy(std::string(NEAP_GOLDEN_DIR) + "/models/smollm2", path_);
    std::filesystem::copy(kGoldens + tokenizer, path_ + "/tokenizer.json");
    for (const char* name : {"generation_config.json", "tokenizer_config.json"}) {
      std::filesystem::remove(path_ + "/" + name);
    }
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ + "/" + name) << text;
  }
  Tokenizer open() const { return Tokenizer::open(Checkpoint::open(path_)); }

 private:
  std::string path_;
};

TEST(TokenizerFolder, GenerationConfigDecidesTheEndsAndFillsInTheStart) {
  const Folder folder("qwen2.tokenizer.json");
  folder.write("tokenizer_config.json",
               R"({"bos_token": null, "eos_token": "<|im_end|>", "add_bos_token": false})");
  folder.write("generation_config.json", R"({"bos_token_id": 1100, "eos_token_id": [1102, 1100]})");
  const Tokenizer tokenizer = folder.open();
  EXPECT_EQ(tokenizer.bos(), 1100);
  EXPECT_EQ(tokenizer.eos(), (std::vector<TokenId>{1102, 1100}));
  EXPECT_FALSE(tokenizer.adds_bos());
}

TEST(TokenizerFolder, TokensMayBeNamedByObjectsAndByTheSpecialTokensMap) {
  const Folder folder("llama3.tokenizer.json");
  folder.write("tokenizer_config.json",
               R"({"eos_token": {"content": "<|eot_id|>", "lstrip": false}})");
  folder.write("special_tokens_map.json", R"({"bos_token": "<|begin_of_text|>"})");
  folder.write("generation_config.json", "{}");
  const Tokenizer tokenizer = folder.open();
  EXPECT_EQ(tokenizer.bos(), tokenizer.id("<|begin_of_text|>"));
  EXPECT_TRUE(tokenizer.adds_bos());
}

TEST(TokenizerFolder, ATemplateFileGoesBeforeTheConfigsTemplate) {
  const Folder folder("gpt2.tokenizer.json");
  folder.write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]})");
  EXPECT_EQ(folder.open().chat_template(), "D");
  folder.write("chat_template.jinja", "file");
  EXPECT_EQ(folder.open().chat_template(), "file");
}

TEST(TokenizerFolder, NoTokenizerIsAnErrorThatNamesTheFile) {
  const std::string model = std::string(NEAP_GOLDEN_DIR) + "/models/llama1";
  try {
    Tokenizer::open(Checkpoint::open(model));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::io);
    EXPECT_NE(std::string(error.what()).find("tokenizer.json"), std::string::npos) << error.what();
  }
}

// The smallest tokenizer that has a bit of everything.
Json small_tokenizer() {
  return Json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [{"id": 3, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                      "normalized": false, "special": true}],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "x"}, "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
    "post_processor": null,
    "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
              "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
              "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})");
}

TEST(TokenizerJson, StartAndEndTokensAreAddedWhereThereIsNoPostProcessor) {
  const std::string config =
      R"({"bos_token": "<s>", "eos_token": "b", "add_bos_token": true, "add_eos_token": true})";
  Json json = small_tokenizer();
  const Tokenizer with = Tokenizer::from_json(json.dump(), "f", config);
  EXPECT_EQ(with.encode("ab"), (std::vector<TokenId>{3, 2, 1}));
  EXPECT_TRUE(with.adds_bos());
  EXPECT_EQ(Tokenizer::from_json(json.dump(), "f").encode("ab"), (std::vector<TokenId>{2}));
  json["post_processor"] = json["decoder"];
  const Tokenizer without = Tokenizer::from_json(json.dump(), "f", config);
  EXPECT_EQ(without.encode("ab"), (std::vector<TokenId>{2}));
  EXPECT_FALSE(without.adds_bos());
}

// Each change of the small tokenizer, and where the error must point.
TEST(TokenizerJson, WhatIsNotKnownIsRefusedByItsPath) {
  struct Case {
    const char* pointer;  // what is replaced
    const char* value;
    ErrorCode code;
    const char* path;  // in the message
  };
  const ErrorCode unsupported = ErrorCode::unsupported, format = ErrorCode::format;
  const Case cases[] = {
      {"/version", R"("2.0")", unsupported, "version"},
      {"/normalizer", R"({"type": "Lowercase"})", unsupported, "normalizer.type"},
      {"/normalizer", R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFKC"}]})",
       unsupported, "normalizer.normalizers[1].type"},
      {"/pre_tokenizer/pretokenizers/0", R"({"type": "Whitespace"})", unsupported,
       "pre_tokenizer.pretokenizers[0].type"},
      {"/pre_tokenizer/pretokenizers/0/pattern", R"({"Regex": "^x"})", unsupported,
       "pre_tokenizer.pretokenizers[0].pattern.Regex"},
      {"/pre_tokenizer/pretokenizers/0/pattern", R"({"Regex": "(x"})", format,
       "pre_tokenizer.pretokenizers[0].pattern.Regex"},
      {"/pre_tokenizer/pretokenizers/0/behavior", R"("Sometimes")", format, "[0].behavior"},
      {"/pre_tokenizer/pretokenizers/0", R"({"type": "ByteLevel"})", unsupported,
       "pre_tokenizer.pretokenizers[1]"},
      {"/decoder", R"({"type": "WordPiece"})", unsupported, "decoder.type"},
      {"/decoder", R"({"type": "Strip", "content": "ab", "start": 1, "stop": 0})", format,
       "decoder.content"},
      {"/post_processor", R"({"type": "BertProcessing"})", unsupported, "post_processor.type"},
      {"/post_processor",
       R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}], "special_tokens": {"<s>": {"ids": [3]}}})",
       format, "post_processor.single"},
      {"/post_processor",
       R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}], "special_tokens": {"<s>": {"ids": [9]}}})",
       format, "post_processor.special_tokens.<s>.ids[0]"},
      {"/model/type", R"("Unigram")", unsupported, "model.type"},
      {"/model/dropout", "0.1", unsupported, "model.dropout"},
      {"/model/end_of_word_suffix", R"("</w>")", unsupported, "model.end_of_word_suffix"},
      {"/model/unk_token", R"("?")", format, "model.unk_token"},
      {"/model/vocab/b", "-1", format, "model.vocab.b"},
      {"/model/vocab/b", "4194304", format, "model.vocab.b"},
      {"/model/vocab/b", "0", format, "model.vocab.b"},
      {"/model/merges/0", R"("a c")", format, "model.merges[0]"},
      {"/model/merges/0", R"("a b c")", format, "model.merges[0]"},
      {"/model/merges/0", R"(["a"])", format, "model.merges[0]"},
      {"/added_tokens/0/id", "1", format, "added_tokens[0].id"},
      {"/added_tokens/0/content", R"("")", format, "added_tokens[0].content"}};
  for (const Case& c : cases) {
    Json json = small_tokenizer();
    json[Json::json_pointer(c.pointer)] = Json::parse(c.value);
    try {
      Tokenizer::from_json(json.dump(), "some.json");
      ADD_FAILURE() << c.pointer << " " << c.value;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), c.code) << error.what();
      EXPECT_NE(error.context().tensor.find(c.path), std::string::npos) << error.what();
      EXPECT_EQ(error.context().file, "some.json");
    }
  }
}

TEST(TokenizerJson, TheConfigsAddedTokensAddToTheOthersAndGoBeforeThem) {
  const std::string json = small_tokenizer().dump();
  const Tokenizer tokenizer = Tokenizer::from_json(json, "f", R"({"added_tokens_decoder": {
      "3": {"content": "<s>", "lstrip": true, "special": false},
      "9": {"content": "<new>", "special": true}}})");
  EXPECT_EQ(tokenizer.encode("a <s><new>"), (std::vector<TokenId>{0, 3, 9}));
  EXPECT_FALSE(tokenizer.is_special(3));
  EXPECT_TRUE(tokenizer.is_special(9));
  EXPECT_EQ(tokenizer.size(), 10);
  for (const char* bad : {R"({"x": {"content": "<new>"}})", R"({"2": {"content": "<new>"}})",
                          R"({"5": {"content": "<s>"}})", R"([])"}) {
    EXPECT_THROW(
        Tokenizer::from_json(json, "f", std::string(R"({"added_tokens_decoder": )") + bad + "}"),
        Error);
  }
}

TEST(TokenizerJson, EveryTruncationIsRefused) {
  const std::string whole = small_tokenizer().dump();
  EXPECT_NO_THROW(Tokenizer::from_json(whole, "f"));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_THROW(Tokenizer::from_json(whole.substr(0, length), "f"), Error);
  }
}

TEST(TokenizerJson, AStartTokenThatTheVocabularyLacksIsRefused) {
  EXPECT_THROW(Tokenizer::from_json(small_tokenizer().dump(), "f", R"({"bos_token": "<bos>"})"),
               Error);
}

GgufTokenizer small_gguf() {
  GgufTokenizer gguf;
  gguf.file = "x.gguf";
  gguf.model = "gpt2";
  gguf.pre = "gpt-2";
  gguf.tokens = {"a", "b", "ab", "<|end|>", "<mine>"};
  gguf.types = {1, 1, 1, 3, 4};
  gguf.merges = {"a b"};
  gguf.bos = 3;
  gguf.ends = {3};
  return gguf;
}

std::vector<TokenId> encode(const GgufTokenizer& gguf, std::string_view text) {
  return Tokenizer::from_json(tokenizer_json_of(gguf).dump(), gguf.file).encode(text);
}

TEST(GgufTokenizer, ControlTokensAreSpecialAndUserDefinedOnesAreNot) {
  const Tokenizer tokenizer =
      Tokenizer::from_json(tokenizer_json_of(small_gguf()).dump(), "x.gguf");
  EXPECT_EQ(tokenizer.encode("ab<mine><|end|>a"), (std::vector<TokenId>{2, 4, 3, 0}));
  EXPECT_TRUE(tokenizer.is_special(3));
  EXPECT_FALSE(tokenizer.is_special(4));
}

TEST(GgufTokenizer, StartAndEndAreAddedWhereAskedFor) {
  GgufTokenizer gguf = small_gguf();
  EXPECT_EQ(encode(gguf, "ab"), (std::vector<TokenId>{2}));
  gguf.add_bos = gguf.add_eos = true;
  EXPECT_EQ(encode(gguf, "ab"), (std::vector<TokenId>{3, 2, 3}));
}

TEST(GgufTokenizer, AnUnknownSplitIsRefusedByItsKey) {
  for (const char* pre : {"", "default", "falcon", "no-such"}) {
    GgufTokenizer gguf = small_gguf();
    gguf.pre = pre;
    try {
      tokenizer_json_of(gguf);
      ADD_FAILURE() << pre;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unsupported);
      EXPECT_EQ(error.context().tensor, "tokenizer.ggml.pre");
    }
  }
}

TEST(GgufTokenizer, PiecesOfHigherScoreAreMadeFirst) {
  GgufTokenizer gguf;
  gguf.model = "llama";
  gguf.tokens = {"<unk>", "\u2581", "a", "b", "c", "ab", "bc", "abc"};
  gguf.types = {2, 1, 1, 1, 1, 1, 1, 1};
  gguf.scores = {0, -9, -9, -9, -9, -2, -1, -3};
  gguf.unknown = 0;
  gguf.add_space_prefix = false;
  EXPECT_EQ(encode(gguf, "abc"), (std::vector<TokenId>{7}));  // bc, then abc
  gguf.tokens.pop_back(), gguf.types.pop_back(), gguf.scores.pop_back();
  EXPECT_EQ(encode(gguf, "abc"), (std::vector<TokenId>{2, 6}));
  gguf.scores[5] = 0;
  EXPECT_EQ(encode(gguf, "abc"), (std::vector<TokenId>{5, 4}));
  EXPECT_EQ(encode(gguf, "zz"), (std::vector<TokenId>{0}));  // unknown ones in a row are one
}

}  // namespace
}  // namespace neap
