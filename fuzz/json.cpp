// JSON and its typed getters. Judge: what parse_json accepts is what the plain parser reads, and
// what only the plain parser accepts repeats a key, is nested too deeply, or has a NUL in it.
#include "io/json.h"

#include <cstdint>
#include <string>

#include "neap/check.h"
#include "neap/error.h"

namespace {

using neap::Json;
using neap::JsonNode;

template <class Getter>
void ignoring_errors(const Getter& get) {
  try {
    get();
  } catch (const neap::Error& error) {
    NEAP_CHECK(std::string(error.what()).find('\n') == std::string::npos);
  }
}

void visit(const JsonNode& node) {
  ignoring_errors([&] { node.string(); });
  ignoring_errors([&] { node.boolean(); });
  ignoring_errors([&] { node.number(); });
  ignoring_errors([&] { NEAP_CHECK(node.integer(-5, 5) >= -5); });
  ignoring_errors([&] { node.at("rope_scaling"); });
  ignoring_errors([&] {
    for (std::size_t i = 0; i < node.size(); ++i) visit(node[i]);
  });
  if (!node.value().is_object()) return;
  for (const auto& [key, value] : node.value().items()) {
    if (const auto child = node.find(key)) visit(*child);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Json plain = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  try {
    const Json strict = neap::parse_json(text, "fuzz");
    NEAP_CHECK(!plain.is_discarded() && strict == plain);
    visit(JsonNode(strict, "fuzz"));
  } catch (const neap::Error& error) {
    const std::string line = error.what();
    NEAP_CHECK(line.find('\n') == line.npos);
    NEAP_CHECK(plain.is_discarded() || line.find("twice") != line.npos ||
               line.find("too deeply") != line.npos || line.find("NUL") != line.npos);
  }
  return 0;
}
