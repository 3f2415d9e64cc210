// A chat template from outside. Judge: it renders, twice alike, or is refused by an Error.
#include <cstdint>
#include <string>

#include "model/chat_template.h"
#include "model/utf8.h"
#include "neap/check.h"
#include "neap/error.h"

namespace {

std::string render(std::string_view source) {
  const neap::ChatMembers user = {{"role", "user"}, {"content", " a\u00E9 b\n"}},
                          assistant = {{"role", "assistant"}, {"content", "<think>x</think>y"}};
  try {
    return neap::render_chat_template(
        source, {{"messages", neap::ChatList{user, assistant, user}}, {"bos_token", "<s>"}});
  } catch (const neap::Error& error) {
    NEAP_CHECK(error.code() == neap::ErrorCode::unsupported || error.code() == neap::ErrorCode::data);
    return error.what();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string storage;
  const std::string_view source =
      neap::make_valid_utf8({reinterpret_cast<const char*>(data), size}, storage);
  NEAP_CHECK(render(source) == render(source));
  return 0;
}
