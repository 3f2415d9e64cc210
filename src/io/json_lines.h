// Files of one JSON object a line (.jsonl).
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "io/json.h"

namespace neap {

// Calls read with each line's value; lines of white space alone are none. The node's file is
// "FILE: line N", so that every error about it says where. Throws as parse_json does.
void for_each_json_line(std::string_view text, const std::string& file,
                        const std::function<void(const JsonNode&)>& read);

}  // namespace neap
