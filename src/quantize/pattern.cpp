#include "quantize/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "neap/check.h"
#include "neap/error.h"

namespace neap {

Pattern::Pattern(const std::string& text) : text_(text) {
  if (!text.starts_with("re:")) return;
  int code = 0;
  PCRE2_SIZE offset = 0;
  const auto* expression = reinterpret_cast<PCRE2_SPTR>(text.data() + 3);
  pcre2_code* regex = pcre2_compile(expression, text.size() - 3, PCRE2_ANCHORED, &code, &offset, nullptr);
  if (!regex) {
    PCRE2_UCHAR message[256] = {};
    pcre2_get_error_message(code, message, sizeof(message));
    throw Error(ErrorCode::argument,
                "'" + text + "' is no regular expression: " + reinterpret_cast<char*>(message) +
                    " at character " + std::to_string(offset + 3));
  }
  regex_ = std::shared_ptr<void>(regex, [](void* p) { pcre2_code_free(static_cast<pcre2_code*>(p)); });
}

bool Pattern::matches(std::string_view module) const {
  if (!regex_) return text_ == module || text_ == "Linear";
  auto* regex = static_cast<pcre2_code*>(regex_.get());
  pcre2_match_data* data = pcre2_match_data_create_from_pattern(regex, nullptr);
  NEAP_CHECK(data);
  const int found = pcre2_match(regex, reinterpret_cast<PCRE2_SPTR>(module.data()), module.size(), 0, 0,
                                data, nullptr);
  pcre2_match_data_free(data);
  return found >= 0;
}

}  // namespace neap
