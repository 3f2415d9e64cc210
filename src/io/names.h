// Names that come from files: tensors, metadata keys, shards.
#pragma once

#include <string>
#include <string_view>

namespace neap {

// Not empty, and free of control characters, which would forge lines and colours in a terminal.
bool is_plain_name(std::string_view name);

// `text` cut to 120 bytes, everything but printable ASCII written as \xNN: safe in any message.
std::string printable(std::string_view text);

}  // namespace neap
