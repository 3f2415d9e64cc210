#include "io/json.h"

#include <utility>
#include <vector>

#include "io/mapped_file.h"
#include "io/names.h"
#include "neap/error.h"

namespace neap {
namespace {

// nlohmann's "[json.exception.parse_error.101] parse error at line 1, column 3: <reason>; last
// read:
// '<bytes of the file>'" down to the reason.
std::string reason_of(const nlohmann::detail::exception& exception) {
  std::string_view text = exception.what();
  if (const auto colon = text.find(": "); colon != text.npos) text.remove_prefix(colon + 2);
  return printable(text.substr(0, text.find("; last read: '")));
}

// Builds the document as the parser goes, refusing what a plain parse would let through.
class StrictBuilder : public nlohmann::json_sax<Json> {
 public:
  StrictBuilder(const std::string& file, std::uint64_t start, std::size_t max_depth)
      : file_(file), start_(start), max_depth_(max_depth) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t& value) override { return add(std::move(value)); }

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    const auto [place, inserted] = open_.back()->emplace(name, nullptr);
    if (!inserted) {
      throw Error(ErrorCode::format, "the same key stands twice in one object",
                  {.file = file_, .tensor = printable(name)});
    }
    member_ = &*place;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& exception) override {
    const std::uint64_t offset = start_ + (position > 0 ? position - 1 : 0);
    throw Error(ErrorCode::format, "not valid JSON: " + reason_of(exception),
                {.file = file_, .offset = offset});
  }

 private:
  template <class Value>
  bool add(Value&& value) {
    place(Json(std::forward<Value>(value)));
    return true;
  }

  Json* place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    *member_ = std::move(value);
    return member_;
  }

  bool open(Json container) {
    if (open_.size() == max_depth_) {
      throw Error(ErrorCode::format, "JSON is nested too deeply",
                  {.file = file_, .expected = "at most " + std::to_string(max_depth_) + " levels"});
    }
    open_.push_back(place(std::move(container)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& file_;
  std::uint64_t start_;
  std::size_t max_depth_;
  Json root_;
  std::vector<Json*> open_;  // containers around the current place; only the last one grows
  Json* member_ = nullptr;   // where the value of the last key goes
};

void check_size(std::uint64_t size, std::uint64_t limit, const std::string& file) {
  if (size <= limit) return;
  throw Error(ErrorCode::format, "too large to be what it should be",
              {.file = file,
               .expected = "at most " + std::to_string(limit) + " bytes",
               .found = std::to_string(size)});
}

}  // namespace

Json parse_json(std::string_view text, const std::string& file, std::uint64_t start,
                const JsonLimits& limits) {
  check_size(text.size(), limits.bytes, file);
  // nlohmann takes a NUL for the end of the text and ignores what follows.
  if (const std::size_t nul = text.find('\0'); nul != text.npos) {
    throw Error(ErrorCode::format, "not valid JSON: a NUL byte",
                {.file = file, .offset = start + nul});
  }
  StrictBuilder builder(file, start, limits.depth);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

std::string read_text_file(const std::string& path, std::uint64_t max_bytes) {
  const MappedFile file(path);
  check_size(file.bytes().size(), max_bytes, path);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

std::optional<JsonNode> JsonNode::find(std::string_view key) const {
  if (!value_->is_object()) wrong_type("an object");
  const auto member = value_->find(key);
  if (member == value_->end() || member->is_null()) return {};
  return JsonNode(*member, file_,
                  path_.empty() ? std::string(key) : path_ + "." + std::string(key));
}

JsonNode JsonNode::at(std::string_view key) const {
  if (auto member = find(key)) return *std::move(member);
  const std::string path = path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  throw Error(ErrorCode::format, "missing", {.file = file_, .tensor = printable(path)});
}

std::size_t JsonNode::size() const {
  if (!value_->is_array()) wrong_type("an array");
  return value_->size();
}

JsonNode JsonNode::operator[](std::size_t index) const {
  if (index >= size()) fail("too few elements", "more than " + std::to_string(index));
  return JsonNode((*value_)[index], file_, path_ + "[" + std::to_string(index) + "]");
}

const std::string& JsonNode::string() const {
  if (!value_->is_string()) wrong_type("a string");
  return value_->get_ref<const std::string&>();
}

bool JsonNode::boolean() const {
  if (!value_->is_boolean()) wrong_type("true or false");
  return value_->get<bool>();
}

std::int64_t JsonNode::integer(std::int64_t low, std::int64_t high) const {
  if (!value_->is_number_integer()) wrong_type("an integer");
  const bool too_large =
      value_->is_number_unsigned() && value_->get<std::uint64_t>() > std::uint64_t{INT64_MAX};
  const auto value = value_->get<std::int64_t>();
  if (too_large || value < low || value > high) {
    fail("out of range", std::to_string(low) + " to " + std::to_string(high));
  }
  return value;
}

double JsonNode::number() const {
  if (!value_->is_number()) wrong_type("a number");
  return value_->get<double>();
}

void JsonNode::fail(const std::string& message, const std::string& expected) const {
  throw Error(ErrorCode::format, message,
              {.file = file_,
               .tensor = printable(path_),
               .expected = expected,
               .found = value_->is_structured() ? value_->type_name() : printable(value_->dump())});
}

void JsonNode::wrong_type(const char* expected) const { fail("has the wrong type", expected); }

}  // namespace neap
