// A conversation as the model's own template writes it.
#include <string>

#include "model/chat_template.h"
#include "model/utf8.h"
#include "neap/error.h"
#include "neap/tokenizer.h"

namespace neap {

std::string render_chat(const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                        bool add_generation_prompt, const std::string& chat_template) {
  const std::string& source = chat_template.empty() ? tokenizer.chat_template() : chat_template;
  if (source.empty()) {
    throw Error(ErrorCode::unsupported, "the model has no chat template");
  }
  // Content is text already cleaned: bytes that are none become U+FFFD as in encode.
  const auto clean = [](const std::string& text) {
    std::string storage;
    return std::string(make_valid_utf8(text, storage));
  };
  ChatList list;
  for (const ChatMessage& message : messages) {
    list.emplace_back(
        ChatMembers{{"role", clean(message.role)}, {"content", clean(message.content)}});
  }
  const ChatValue none = ChatValue(ChatNone{});
  ChatMembers variables = {{"messages", std::move(list)},
                           {"tools", none},
                           {"documents", none},
                           {"add_generation_prompt", add_generation_prompt}};
  for (const auto& [name, text] : tokenizer.named_tokens()) variables.emplace_back(name, text);
  return render_chat_template(source, variables);
}

}  // namespace neap
