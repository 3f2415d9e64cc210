// What a chat template may call: filters, tests, methods, operators. All throw by chat_unsupported
// or chat_failure, and pay for their work beyond what the texts that they are given are long: that
// has been paid where those were evaluated.
#pragma once

#include <cstddef>
#include <string>

#include "model/chat_value.h"
#include "model/chat_work.h"

namespace neap {

ChatValue apply_chat_filter(const std::string& name, const ChatValue& value,
                            const ChatArguments& arguments, ChatWork& work);
bool apply_chat_test(const std::string& name, const ChatValue& value,
                     const ChatArguments& arguments, ChatWork& work);
// object.name(arguments), for texts and mappings.
ChatValue call_chat_method(const ChatValue& object, const std::string& name,
                           const ChatArguments& arguments, ChatWork& work);
bool has_chat_method(const ChatValue& object, const std::string& name);

// object.name, and object[index]; undefined where there is nothing.
ChatValue chat_attribute(const ChatValue& object, const std::string& name, ChatWork& work);
ChatValue chat_item(const ChatValue& object, const ChatValue& index, ChatWork& work);
// Bounds are integers, or none where left out.
ChatValue chat_slice(const ChatValue& object, const ChatValue& from, const ChatValue& to,
                     const ChatValue& step, ChatWork& work);

// "+", "-", "*", "/", "//", "%", "~", "<", "<=", ">", ">=", "==", "!=", "in", "not in".
ChatValue chat_operator(const std::string& name, const ChatValue& left, const ChatValue& right,
                        ChatWork& work);

// What a loop goes over: items, keys, characters; nothing for what is undefined.
ChatList chat_items(const ChatValue& value, ChatWork& work);

}  // namespace neap
