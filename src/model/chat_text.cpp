#include "model/chat_text.h"

#include <cstring>

#include "model/utf8.h"
#include "model/utf8_classes.h"

namespace neap {

bool is_python_space(char32_t c) { return is_space(c) || (c >= 0x1C && c <= 0x1F); }

std::string_view python_strip(std::string_view text, bool left, bool right,
                              std::optional<std::string_view> of) {
  const auto strips = [&](CodePoint c, std::size_t at) {
    return of ? of->find(text.substr(at, c.bytes)) != of->npos : is_python_space(c.value);
  };
  while (left && !text.empty()) {
    const CodePoint c = code_point_at(text, 0);
    if (!strips(c, 0)) break;
    text.remove_prefix(c.bytes);
  }
  while (right && !text.empty()) {
    const CodePoint c = code_point_before(text, text.size());
    if (!strips(c, text.size() - c.bytes)) break;
    text.remove_suffix(c.bytes);
  }
  return text;
}

std::vector<std::string> python_split(std::string_view text,
                                      std::optional<std::string_view> separator,
                                      std::int64_t most) {
  std::vector<std::string> parts;
  const auto room = [&] { return most < 0 || static_cast<std::int64_t>(parts.size()) < most; };
  if (separator) {
    for (std::size_t at = find_text(text, *separator); at != text.npos && room();
         at = find_text(text, *separator)) {
      parts.emplace_back(text.substr(0, at));
      text.remove_prefix(at + separator->size());
    }
    parts.emplace_back(text);
    return parts;
  }
  for (text = python_strip(text, true, false); !text.empty();
       text = python_strip(text, true, false)) {
    std::size_t end = 0;
    while (end < text.size() && !is_python_space(code_point_at(text, end).value)) {
      end += code_point_at(text, end).bytes;
    }
    if (!room()) {  // the last part keeps the white space inside it, and at its end
      parts.emplace_back(text);
      break;
    }
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return parts;
}

std::size_t find_text(std::string_view text, std::string_view part) {
  if (part.empty()) return 0;
  const void* found = ::memmem(text.data(), text.size(), part.data(), part.size());
  if (found == nullptr) return text.npos;
  return static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
}

std::string python_replace(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (std::size_t at = find_text(text, from); at != text.npos; at = find_text(text, from)) {
    out.append(text.substr(0, at)).append(to);
    text.remove_prefix(at + from.size());
  }
  return out.append(text);
}

std::optional<std::string_view> character_at(std::string_view text, std::int64_t index) {
  if (index < 0) index += static_cast<std::int64_t>(count_code_points(text));
  if (index < 0) return std::nullopt;
  for (std::size_t at = 0; at < text.size(); --index) {
    const std::size_t bytes = code_point_at(text, at).bytes;
    if (index == 0) return text.substr(at, bytes);
    at += bytes;
  }
  return std::nullopt;
}

std::vector<std::string> characters_of(std::string_view text) {
  std::vector<std::string> characters;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t bytes = code_point_at(text, at).bytes;
    characters.emplace_back(text.substr(at, bytes));
    at += bytes;
  }
  return characters;
}

}  // namespace neap
