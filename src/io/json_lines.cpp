#include "io/json_lines.h"

#include <algorithm>

namespace neap {

void for_each_json_line(std::string_view text, const std::string& file,
                        const std::function<void(const JsonNode&)>& read) {
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    ++number;
    if (line.find_first_not_of(" \t\r\v\f") != line.npos) {
      const std::string place = file + ": line " + std::to_string(number);
      const Json value = parse_json(line, place, begin);
      read(JsonNode(value, place));
    }
    begin = end + 1;
  }
}

}  // namespace neap
