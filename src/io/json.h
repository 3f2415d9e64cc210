// Strict JSON for files from outside, over nlohmann-json. Not for include/neap: the public headers
// do not depend on a JSON library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace neap {

using Json = nlohmann::json;  // objects sorted by key

struct JsonLimits {
  std::size_t bytes = std::size_t{256} << 20;
  std::size_t depth = 64;  // of nested arrays and objects
};

// Throws Error(format) naming `file` and the offset of what is wrong (plus `start`, where the text
// begins in its file) for anything that RFC 8259 does not allow, ill-formed UTF-8 included; for a
// key that an object holds twice, which other readers would silently drop; and beyond the limits.
Json parse_json(std::string_view text, const std::string& file, std::uint64_t start = 0,
                const JsonLimits& limits = {});

// All of a small file. Throws Error(io), or Error(format) if it is larger than `max_bytes`.
std::string read_text_file(const std::string& path, std::uint64_t max_bytes = JsonLimits{}.bytes);

// A place in a JSON document that knows its file and its path from the root
// ("rope_scaling.factor"), so that every wrong type is an Error(format) naming both. Refers to the
// document: keep that alive.
class JsonNode {
 public:
  JsonNode(const Json& value, std::string file, std::string path = {})
      : value_(&value), file_(std::move(file)), path_(std::move(path)) {}

  const Json& value() const { return *value_; }
  const std::string& file() const { return file_; }
  const std::string& path() const { return path_; }

  // Members of an object. find: nothing when absent or null; at: throws when absent or null.
  std::optional<JsonNode> find(std::string_view key) const;
  JsonNode at(std::string_view key) const;
  // Elements of an array.
  std::size_t size() const;
  JsonNode operator[](std::size_t index) const;

  const std::string& string() const;
  bool boolean() const;
  // Written without fraction or exponent, and in [low, high].
  std::int64_t integer(std::int64_t low = std::numeric_limits<std::int64_t>::min(),
                       std::int64_t high = std::numeric_limits<std::int64_t>::max()) const;
  double number() const;  // integers included

  // Error(format) about this place, for checks that the caller makes.
  [[noreturn]] void fail(const std::string& message, const std::string& expected = {}) const;

 private:
  [[noreturn]] void wrong_type(const char* expected) const;

  const Json* value_;
  std::string file_, path_;
};

}  // namespace neap
