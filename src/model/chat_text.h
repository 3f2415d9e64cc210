// Python's str methods that chat templates call, on valid UTF-8.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace neap {

bool is_python_space(char32_t c);  // str.isspace

// strip, lstrip, rstrip: of white space, or of any of the characters `of`.
std::string_view python_strip(std::string_view text, bool left, bool right,
                              std::optional<std::string_view> of = std::nullopt);
// split(separator, most); without a separator, at runs of white space.
std::vector<std::string> python_split(std::string_view text,
                                      std::optional<std::string_view> separator, std::int64_t most);
// As std::string_view::find, but never as slow as the product of both lengths.
std::size_t find_text(std::string_view text, std::string_view part);
std::string python_replace(std::string_view text, std::string_view from, std::string_view to);
// The character at `index`, a negative one counting from the end; nothing when out of range.
std::optional<std::string_view> character_at(std::string_view text, std::int64_t index);
std::vector<std::string> characters_of(std::string_view text);

}  // namespace neap
