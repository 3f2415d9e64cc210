// A tokenizer.json from outside, and text for it: the first line of the input is the text. Judges:
// every id is a token, encoding does not depend on what has been encoded before, and an error is one
// line.
#include "neap/tokenizer.h"

#include <cstdint>
#include <string>

#include "neap/check.h"
#include "neap/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t line = std::min(input.find('\n'), size);
  const std::string_view text = input.substr(0, line), json = input.substr(std::min(line + 1, size));
  try {
    const neap::Tokenizer tokenizer = neap::Tokenizer::from_json(json, "fuzz");
    const std::vector<neap::TokenId> ids = tokenizer.encode(text);
    for (const neap::TokenId id : ids) NEAP_CHECK(!tokenizer.token(id).empty() || id < tokenizer.size());
    std::string longer;  // long enough for the word cache
    while (longer.size() < 600) longer += std::string(text) + "\n";
    tokenizer.decode(tokenizer.encode(longer), /*skip_special=*/false);
    NEAP_CHECK(tokenizer.encode(text) == ids);
  } catch (const neap::Error& error) {
    NEAP_CHECK(error.code() != neap::ErrorCode::io);
  }
  return 0;
}
