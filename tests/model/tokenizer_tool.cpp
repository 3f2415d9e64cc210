// For tests/peers/compare_tokenizers.py: one tokenizer, many texts, over pipes.
//   tokenizer_tool TOKENIZER.JSON|FILE.GGUF|DIRECTORY [--special]
// reads { u32 length, bytes } and writes { u32 count, i32 ids, u32 length, bytes of the ids decoded
// }, little-endian, until the input ends. With --time, encodes all of standard input at once and
// prints seconds and tokens. With --json, prints a GGUF's tokenizer.json.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "io/json.h"
#include "model/chat_template.h"
#include "model/tokenizer_gguf.h"
#include "neap/checkpoint.h"
#include "neap/error.h"
#include "neap/tokenizer.h"

namespace {

neap::Tokenizer load(const std::string& path) {
  if (path.size() > 5 && path.substr(path.size() - 5) == ".json") {
    return neap::Tokenizer::from_json(neap::read_text_file(path), path);
  }
  return neap::Tokenizer::open(neap::Checkpoint::open(path));
}

bool read_text(std::string& text) {
  std::uint32_t length = 0;
  if (std::fread(&length, sizeof length, 1, stdin) != 1) return false;
  text.resize(length);
  return std::fread(text.data(), 1, length, stdin) == length;
}

void write_u32(std::size_t value) {
  const auto narrow = static_cast<std::uint32_t>(value);
  std::fwrite(&narrow, sizeof narrow, 1, stdout);
}

std::string read_all() {
  std::string text;
  char buffer[1 << 16];
  for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, stdin)) > 0;)
    text.append(buffer, n);
  return text;
}

void time(const neap::Tokenizer& tokenizer) {
  const std::string text = read_all();
  const auto begin = std::chrono::steady_clock::now();
  const std::size_t tokens = tokenizer.encode(text).size();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  std::printf("%.6f %zu\n", seconds.count(), tokens);
}

neap::ChatValue value_of(const neap::Json& json) {
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_string()) return json.get<std::string>();
  if (json.is_null()) return neap::ChatValue(neap::ChatNone{});
  if (json.is_array()) {
    neap::ChatList list;
    for (const neap::Json& item : json) list.push_back(value_of(item));
    return list;
  }
  neap::ChatMembers members;
  for (const auto& [name, member] : json.items()) members.emplace_back(name, value_of(member));
  return members;
}

void render_lines() {
  std::string line;
  while (std::getline(std::cin, line)) {
    const neap::Json request = neap::Json::parse(line);
    neap::ChatMembers variables = {{"messages", value_of(request.at("messages"))}};
    for (const auto& [name, value] : request.at("variables").items()) {
      variables.emplace_back(name, value_of(value));
    }
    neap::Json answer;
    try {
      answer["text"] =
          neap::render_chat_template(request.at("template").get<std::string>(), variables);
    } catch (const neap::Error& error) {
      answer["error"] = error.what();
      answer["refused"] = error.code() == neap::ErrorCode::data;
    }
    std::cout << answer.dump() << std::endl;
  }
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) return 2;
  if (std::string(argv[1]) == "--chat") return render_lines(), 0;
  const std::string mode = argc > 2 ? argv[2] : "";
  if (mode == "--json") {
    const neap::Checkpoint checkpoint = neap::Checkpoint::open(argv[1]);
    if (checkpoint.gguf() == nullptr) return 2;
    std::puts(
        neap::tokenizer_json_of(neap::read_gguf_tokenizer(*checkpoint.gguf())).dump().c_str());
    return 0;
  }
  const neap::Tokenizer tokenizer = load(argv[1]);
  if (mode == "--time") return time(tokenizer), 0;
  for (std::string text; read_text(text);) {
    const std::vector<neap::TokenId> ids = tokenizer.encode(text, mode == "--special");
    write_u32(ids.size());
    std::fwrite(ids.data(), sizeof ids[0], ids.size(), stdout);
    const std::string decoded = tokenizer.decode(ids, /*skip_special=*/false);
    write_u32(decoded.size());
    std::fwrite(decoded.data(), 1, decoded.size(), stdout);
    std::fflush(stdout);
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
