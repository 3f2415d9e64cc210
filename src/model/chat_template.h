// Chat templates: the part of Jinja 2 that they use, as transformers sets it up. Not here, and
// refused by Error(unsupported): inheritance, includes, call blocks, recursive loops, floats,
// printing of lists.
#pragma once

#include <string_view>

#include "model/chat_value.h"

namespace neap {

// source: valid UTF-8. variables: what the template finds defined. `raise_exception`, `namespace`,
// `range` and `strftime_now` are defined too; today is always 26 July 2024, the day that Llama 3's
// template takes where it has no clock, so that the same conversation gives the same text. Throws
// Error(unsupported), or Error(data) where the template fails or raises an exception.
std::string render_chat_template(std::string_view source, const ChatMembers& variables);

}  // namespace neap
