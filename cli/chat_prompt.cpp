#include "chat_prompt.h"

#include <fstream>
#include <sstream>

#include "neap/error.h"

namespace neap::cli {

void add_chat_options(CLI::App& command, ChatOptions& options) {
  command.add_option("--system", options.system, "what the system says before a conversation")
      ->type_name("TEXT");
  command
      .add_option("--chat-template", options.template_file,
                  "a Jinja template in place of the model's own")
      ->type_name("FILE");
}

ChatPrompt::ChatPrompt(const Tokenizer& tokenizer, const ChatOptions& options)
    : tokenizer_(tokenizer), system_(options.system) {
  if (options.template_file.empty()) return;
  std::ifstream in(options.template_file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in || text.str().empty()) {
    throw Error(ErrorCode::io, "cannot read a chat template",
                {.file = options.template_file, .expected = "a text"});
  }
  template_ = text.str();
}

std::vector<TokenId> ChatPrompt::ids(std::span<const ChatMessage> messages) const {
  std::vector<ChatMessage> all;
  if (!system_.empty()) all.push_back({"system", system_});
  all.insert(all.end(), messages.begin(), messages.end());
  try {
    return tokenizer_.encode(render_chat(tokenizer_, all, /*add_generation_prompt=*/true, template_),
                             /*add_special=*/false);
  } catch (const Error& error) {
    throw Error(error.code(), std::string(error.what()) + " (see --chat-template)");
  }
}

}  // namespace neap::cli
