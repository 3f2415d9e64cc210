// What a chat template may call: filters, tests, methods, operators. All throw by chat_unsupported
// or chat_failure.
#pragma once

#include <cstddef>
#include <string>

#include "model/chat_value.h"

namespace neap {

// No text made on the way is longer: a template cannot eat the machine.
constexpr std::size_t kLongestChatText = std::size_t{64} << 20;

ChatValue apply_chat_filter(const std::string& name, const ChatValue& value,
                            const ChatArguments& arguments);
bool apply_chat_test(const std::string& name, const ChatValue& value,
                     const ChatArguments& arguments);
// object.name(arguments), for texts and mappings.
ChatValue call_chat_method(const ChatValue& object, const std::string& name,
                           const ChatArguments& arguments);
bool has_chat_method(const ChatValue& object, const std::string& name);

// object.name, and object[index]; undefined where there is nothing.
ChatValue chat_attribute(const ChatValue& object, const std::string& name);
ChatValue chat_item(const ChatValue& object, const ChatValue& index);
// Bounds are integers, or none where left out.
ChatValue chat_slice(const ChatValue& object, const ChatValue& from, const ChatValue& to,
                     const ChatValue& step);

// "+", "-", "*", "/", "//", "%", "~", "<", "<=", ">", ">=", "==", "!=", "in", "not in".
ChatValue chat_operator(const std::string& name, const ChatValue& left, const ChatValue& right);

// What a loop goes over: items, keys, characters; nothing for what is undefined.
ChatList chat_items(const ChatValue& value);

}  // namespace neap
