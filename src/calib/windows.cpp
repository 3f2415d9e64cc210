#include <nlohmann/json.hpp>
#include <xxhash.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "io/writer.h"
#include "neap/calibration.h"
#include "neap/error.h"

namespace neap {
namespace {

using Json = nlohmann::json;

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in || std::filesystem::is_directory(path)) throw Error(ErrorCode::io, "cannot open the text", {.file = path});
  std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (in.bad()) throw Error(ErrorCode::io, "cannot read the text", {.file = path});
  return text;
}

std::string hash_of(const void* bytes, std::size_t count) {
  static constexpr char kDigits[] = "0123456789abcdef";
  const XXH64_hash_t h = XXH3_64bits(bytes, count);
  std::string hex;
  for (int shift = 60; shift >= 0; shift -= 4) hex += kDigits[(h >> shift) & 15];
  return hex;
}

// Packs documents one after another and cuts the stream every `length` tokens.
class Packer {
 public:
  Packer(std::int64_t length, TokenWindows& out) : length_(length), out_(out) {}

  void add(const std::vector<TokenId>& document) {
    for (const TokenId id : document) {
      open_.push_back(id);
      if (static_cast<std::int64_t>(open_.size()) == length_) close();
    }
  }
  void add_window(std::vector<TokenId> ids) { out_.windows.push_back(std::move(ids)); }
  void close() {
    if (!open_.empty()) out_.windows.push_back(std::move(open_));
    open_.clear();
  }

 private:
  std::int64_t length_;
  TokenWindows& out_;
  std::vector<TokenId> open_;
};

[[noreturn]] void bad_line(const std::string& file, std::int64_t line, const std::string& why) {
  throw Error(ErrorCode::format, "line " + std::to_string(line) + ": " + why,
              {.file = file,
               .expected = R"({"text": ...}, {"messages": [...]} or {"ids": [...]})"});
}

std::vector<ChatMessage> messages_of(const Json& list, const std::string& file, std::int64_t line) {
  std::vector<ChatMessage> messages;
  if (!list.is_array() || list.empty()) bad_line(file, line, "'messages' is not a list of messages");
  for (const Json& m : list) {
    if (!m.is_object() || !m.contains("role") || !m.contains("content") || !m["role"].is_string() ||
        !m["content"].is_string()) {
      bad_line(file, line, "a message needs the texts 'role' and 'content'");
    }
    messages.push_back({m["role"].get<std::string>(), m["content"].get<std::string>()});
  }
  return messages;
}

std::vector<TokenId> ids_of(const Json& list, const Tokenizer& tokenizer, const std::string& file,
                            std::int64_t line) {
  std::vector<TokenId> ids;
  if (!list.is_array() || list.empty()) bad_line(file, line, "'ids' is not a list of token ids");
  for (const Json& id : list) {
    if (!id.is_number_integer() || id.get<std::int64_t>() < 0 ||
        id.get<std::int64_t>() >= tokenizer.size()) {
      bad_line(file, line, "token id " + id.dump() + " is not in the vocabulary");
    }
    ids.push_back(id.get<TokenId>());
  }
  return ids;
}

// One line of a .jsonl file; returns its number of tokens.
std::int64_t add_line(const std::string& text, const std::string& file, std::int64_t line,
                      const Tokenizer& tokenizer, Packer& packer) {
  const Json object = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded() || !object.is_object()) bad_line(file, line, "not a JSON object");
  if (object.contains("ids")) {
    auto ids = ids_of(object["ids"], tokenizer, file, line);
    const auto count = static_cast<std::int64_t>(ids.size());
    packer.add_window(std::move(ids));
    return count;
  }
  std::vector<TokenId> ids;
  if (object.contains("messages")) {
    const auto messages = messages_of(object["messages"], file, line);
    ids = tokenizer.encode(render_chat(tokenizer, messages, /*add_generation_prompt=*/false),
                           /*add_special=*/false);
  } else if (object.contains("text") && object["text"].is_string()) {
    ids = tokenizer.encode(object["text"].get_ref<const std::string&>());
  } else {
    bad_line(file, line, "none of 'text', 'messages', 'ids'");
  }
  packer.add(ids);
  return static_cast<std::int64_t>(ids.size());
}

std::int64_t add_jsonl(const std::string& content, const std::string& file,
                       const Tokenizer& tokenizer, Packer& packer) {
  std::int64_t tokens = 0, line = 0;
  for (std::size_t begin = 0; begin < content.size();) {
    std::size_t end = content.find('\n', begin);
    if (end == std::string::npos) end = content.size();
    const std::string text = content.substr(begin, end - begin);
    begin = end + 1;
    ++line;
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    tokens += add_line(text, file, line, tokenizer, packer);
  }
  return tokens;
}

}  // namespace

std::int64_t TokenWindows::tokens() const {
  std::int64_t sum = 0;
  for (const auto& window : windows) sum += static_cast<std::int64_t>(window.size());
  return sum;
}

TokenWindows read_windows(const std::vector<std::string>& files, const Tokenizer& tokenizer,
                          std::int64_t samples, std::int64_t length) {
  if (length < 1) throw Error(ErrorCode::argument, "a window needs at least one token");
  TokenWindows result;
  Packer packer(length, result);
  for (const std::string& file : files) {
    const std::string content = read_file(file);
    std::int64_t tokens = 0;
    if (file.ends_with(".jsonl")) {
      tokens = add_jsonl(content, file, tokenizer, packer);
    } else {
      const auto ids = tokenizer.encode(content);
      packer.add(ids);
      tokens = static_cast<std::int64_t>(ids.size());
    }
    result.sources.push_back({file, hash_of(content.data(), content.size()), tokens});
  }
  packer.close();
  const auto found = static_cast<std::int64_t>(result.windows.size());
  const std::string name = files.size() == 1 ? files.front() : "the calibration files";
  if (found == 0) throw Error(ErrorCode::data, "no text in it", {.file = name});
  const bool last_is_short = static_cast<std::int64_t>(result.windows.back().size()) < length;
  if (samples > 0 && found < samples + (last_is_short && found == samples ? 1 : 0)) {
    throw Error(ErrorCode::data, "too little calibration text",
                {.file = name,
                 .expected = std::to_string(samples) + " windows of " + std::to_string(length) +
                             " tokens (fewer with --samples, shorter with --seqlen)",
                 .found = std::to_string(result.tokens()) + " tokens"});
  }
  if (samples > 0) result.windows.resize(static_cast<std::size_t>(samples));
  return result;
}

void save_windows(const TokenWindows& windows, const std::string& path) {
  std::string lines;
  for (const auto& window : windows.windows) lines += Json{{"ids", window}}.dump() + "\n";
  write_file_atomically(path, lines);
}

}  // namespace neap
