#include <xxhash.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "io/json_lines.h"
#include "io/writer.h"
#include "neap/calibration.h"
#include "neap/error.h"

namespace neap {
namespace {

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

std::vector<ChatMessage> messages_of(const JsonNode& list) {
  std::vector<ChatMessage> messages;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const JsonNode message = list[i];
    messages.push_back({message.at("role").string(), message.at("content").string()});
  }
  if (messages.empty()) list.fail("empty", "a list of messages");
  return messages;
}

std::vector<TokenId> ids_of(const JsonNode& list, const Tokenizer& tokenizer) {
  std::vector<TokenId> ids;
  for (std::size_t i = 0; i < list.size(); ++i) {
    ids.push_back(static_cast<TokenId>(list[i].integer(0, tokenizer.size() - 1)));
  }
  if (ids.empty()) list.fail("empty", "a list of token ids");
  return ids;
}

// The text of a line that has no ids, in tokens.
std::vector<TokenId> encoded(const JsonNode& line, const Tokenizer& tokenizer) {
  if (const auto messages = line.find("messages")) {
    return tokenizer.encode(render_chat(tokenizer, messages_of(*messages), /*add_generation_prompt=*/false),
                            /*add_special=*/false);
  }
  if (const auto text = line.find("text")) return tokenizer.encode(text->string());
  line.fail("not a line of calibration text", R"({"text": ...}, {"messages": [...]} or {"ids": [...]})");
}

// One line of a .jsonl file; returns its number of tokens.
std::int64_t add_line(const JsonNode& line, const Tokenizer& tokenizer, Packer& packer) {
  const auto list = line.find("ids");
  std::vector<TokenId> ids = list ? ids_of(*list, tokenizer) : encoded(line, tokenizer);
  const auto count = static_cast<std::int64_t>(ids.size());
  if (list) {
    packer.add_window(std::move(ids));
  } else {
    packer.add(ids);
  }
  return count;
}

}  // namespace

std::int64_t TokenWindows::tokens() const {
  std::int64_t sum = 0;
  for (const auto& window : windows) sum += static_cast<std::int64_t>(window.size());
  return sum;
}

std::size_t TokenWindows::longest() const {
  std::size_t most = 0;
  for (const auto& window : windows) most = std::max(most, window.size());
  return most;
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
      for_each_json_line(content, file,
                         [&](const JsonNode& line) { tokens += add_line(line, tokenizer, packer); });
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
