// Conversations as token ids, for the commands that hold them.
#pragma once

#include <CLI/CLI.hpp>
#include <span>
#include <string>
#include <vector>

#include "neap/tokenizer.h"

namespace neap::cli {

// --system, --chat-template.
struct ChatOptions {
  std::string system, template_file;
};
void add_chat_options(CLI::App& command, ChatOptions& options);

class ChatPrompt {
 public:
  // Reads the template's file, if one is given. Throws Error(io). Keeps a reference to the tokenizer.
  ChatPrompt(const Tokenizer& tokenizer, const ChatOptions& options);

  // The conversation up to where the assistant's answer begins; --system comes first. Throws
  // Error(unsupported | data) that names --chat-template.
  std::vector<TokenId> ids(std::span<const ChatMessage> messages) const;

 private:
  const Tokenizer& tokenizer_;
  std::string system_, template_;
};

}  // namespace neap::cli
