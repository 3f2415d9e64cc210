#include "export/tokenizer_files.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>

#include "io/gguf.h"
#include "io/json.h"
#include "model/tokenizer_gguf.h"
#include "neap/error.h"

namespace neap {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 12> kNames = {"tokenizer.json",
                                                     "tokenizer_config.json",
                                                     "special_tokens_map.json",
                                                     "added_tokens.json",
                                                     "vocab.json",
                                                     "merges.txt",
                                                     "vocab.txt",
                                                     "tekken.json",
                                                     "generation_config.json",
                                                     "chat_template.jinja",
                                                     "chat_template.json",
                                                     "tiktoken.model"};

bool is_wanted(const std::string& name) {
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end() || name.ends_with(".model");
}

std::vector<SmallFile> made_from(const GgufFile& gguf) {
  const GgufTokenizer tokenizer = read_gguf_tokenizer(gguf);
  Json config = tokenizer_config_json_of(tokenizer),
       generation = generation_config_json_of(tokenizer);
  config["model_max_length"] =
      gguf.integer(gguf.string("general.architecture") + ".context_length");
  const std::int64_t pad = gguf.integer("tokenizer.ggml.padding_token_id", -1);
  if (pad >= 0 && pad < static_cast<std::int64_t>(tokenizer.tokens.size())) {
    config["pad_token"] = tokenizer.tokens[static_cast<std::size_t>(pad)];
    generation["pad_token_id"] = pad;
  }
  return {{"tokenizer.json", tokenizer_json_of(tokenizer).dump(1) + "\n"},
          {"tokenizer_config.json", config.dump(2) + "\n"},
          {"generation_config.json", generation.dump(2) + "\n"}};
}

}  // namespace

std::vector<SmallFile> tokenizer_files(const Checkpoint& checkpoint) {
  if (const GgufFile* gguf = checkpoint.gguf()) {
    return gguf->has("tokenizer.ggml.model") ? made_from(*gguf) : std::vector<SmallFile>{};
  }
  std::vector<SmallFile> files;
  std::error_code error;
  for (fs::directory_iterator it(checkpoint.folder(), error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!is_wanted(name) || !it->is_regular_file()) continue;  // links are followed: the hub cache
    files.push_back({name, read_text_file(it->path().string())});
  }
  if (error) {
    throw Error(ErrorCode::io, "cannot read: " + error.message(), {.file = checkpoint.folder()});
  }
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return files;
}

}  // namespace neap
