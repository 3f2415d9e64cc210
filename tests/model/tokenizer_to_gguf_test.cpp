#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "model/tokenizer_gguf.h"
#include "support/byte_tokenizer.h"
#include "support/expect_error.h"
#include "support/temp_folder.h"
#include "support/tiny_model.h"

namespace neap {
namespace {

namespace fs = std::filesystem;

const std::string kTokenizers = NEAP_GOLDEN_DIR "/tokenizers/";

// A golden tokenizer beside some model, read for a vocabulary of 10 more.
GgufTokenizer converted(const test::TempFolder& folder, const std::string& name) {
  const std::string model = test::tiny_model(folder, "llama2");
  fs::copy_file(kTokenizers + name + ".tokenizer.json", model + "/tokenizer.json", fs::copy_options::overwrite_existing);
  fs::remove(model + "/tokenizer_config.json");
  const Checkpoint checkpoint = Checkpoint::open(model);
  return gguf_tokenizer_of(checkpoint, Tokenizer::open(checkpoint).size() + 10);
}

TEST(TokenizerToGguf, TextsGiveTheSameIdsBeforeAndAfter) {
  for (const std::string name : {"gpt2", "llama2", "llama3", "qwen2", "smollm2", "tekken", "o200k"}) {
    const test::TempFolder folder;
    const GgufTokenizer gguf = converted(folder, name);
    const Tokenizer before = Tokenizer::open(Checkpoint::open(folder / "llama2"));
    const Tokenizer after = Tokenizer::from_json(tokenizer_json_of(gguf).dump(), name, tokenizer_config_json_of(gguf).dump());
    for (const char* text : {"", "Hello world", "  two  spaces\n\n\tand 12345 numbers, it's", "\xC3\xA9t\xC3\xA9 \xE4\xB8\xAD\xE6\x96\x87 \xF0\x9F\x98\x80", "aaaa bbbb !!!! ----"}) {
      EXPECT_EQ(before.encode(text), after.encode(text)) << name << ": " << text;
    }
  }
}

TEST(TokenizerToGguf, MetadataSayWhatTheReferenceFilesSay) {
  for (const std::string name : {"llama2", "llama3", "qwen2", "smollm2", "tekken"}) {
    const test::TempFolder folder;
    const GgufTokenizer gguf = converted(folder, name);
    const Checkpoint reference = Checkpoint::open(kTokenizers + name + ".gguf");
    const GgufTokenizer expected = read_gguf_tokenizer(*reference.gguf());
    EXPECT_EQ(gguf.model, expected.model) << name;
    if (gguf.model == "gpt2") {
      EXPECT_EQ(gguf.pre, expected.pre) << name;
    }
    EXPECT_EQ(gguf.merges, expected.merges) << name;
    ASSERT_GE(gguf.tokens.size(), expected.tokens.size());
    for (std::size_t id = 0; id < expected.tokens.size(); ++id) {
      if (!expected.types.empty() && expected.types[id] == 5) continue;  // a hole, by whatever name
      EXPECT_EQ(gguf.tokens[id], expected.tokens[id]) << name << " " << id;
      if (!expected.types.empty()) {
        EXPECT_EQ(gguf.types[id], expected.types[id]) << name << " " << gguf.tokens[id];
      }
    }
  }
}

TEST(TokenizerToGguf, WhatLlamaCppHasNoNameForIsRefused) {
  for (const std::string name : {"deepseek", "odd_flags", "behaviours"}) {
    const test::TempFolder folder;
    EXPECT_THROW(converted(folder, name), Error) << name;
  }
}

// tokenizer.json with every flag that is off, and ByteLevel's that are on by default, as null.
void write_nulls(const std::string& path) {
  Json root = parse_json(read_text_file(path), path);
  for (const char* key : {"byte_fallback", "ignore_merges", "fuse_unk"}) root["model"][key] = nullptr;
  root["added_tokens"] = nullptr;
  root["pre_tokenizer"]["use_regex"] = nullptr;
  std::ofstream(path) << root.dump();
}

TEST(TokenizerToGguf, NullIsAbsenceHereToo) {
  const test::TempFolder folder;
  const std::string model = test::tiny_model(folder, "llama2");
  folder.write("llama2/tokenizer.json", test::byte_tokenizer_json(/*add_bos=*/false));
  const GgufTokenizer before = gguf_tokenizer_of(Checkpoint::open(model), 259);
  write_nulls(model + "/tokenizer.json");
  const GgufTokenizer after = gguf_tokenizer_of(Checkpoint::open(model), 259);
  EXPECT_EQ(after.model, "gpt2");
  EXPECT_EQ(after.pre, before.pre);
}

TEST(TokenizerToGguf, MoreTokensThanRowsAreRefused) {
  const test::TempFolder folder;
  const Checkpoint checkpoint = Checkpoint::open(test::tiny_model(folder, "llama2"));
  EXPECT_EQ(gguf_tokenizer_of(checkpoint, 259).tokens.size(), 259u);
  EXPECT_THROW(gguf_tokenizer_of(checkpoint, 258), Error);
}

}  // namespace
}  // namespace neap
