#include "io/gguf.h"

#include <cstdio>
#include <type_traits>

#include "io/names.h"
#include "neap/error.h"

namespace neap {
namespace {

template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};

template <class T>
constexpr bool kIsInteger = std::is_integral_v<T> && !std::is_same_v<T, bool>;

template <class T>
std::string type_name() {
  if constexpr (std::is_same_v<T, std::string>) return "string";
  if constexpr (std::is_same_v<T, bool>) return "bool";
  std::string name(1, std::is_floating_point_v<T> ? 'f' : std::is_signed_v<T> ? 'i' : 'u');
  return name += std::to_string(8 * sizeof(T));
}

// Nothing if the value is of another kind or out of range.
std::optional<std::int64_t> as_integer(const GgufValue& value) {
  return std::visit(
      [](const auto& v) -> std::optional<std::int64_t> {
        using T = std::decay_t<decltype(v)>;
        if constexpr (kIsInteger<T>) {
          if (std::in_range<std::int64_t>(v)) return static_cast<std::int64_t>(v);
        }
        return {};
      },
      value);
}

std::optional<double> as_number(const GgufValue& value) {
  return std::visit(
      [](const auto& v) -> std::optional<double> {
        using T = std::decay_t<decltype(v)>;
        if constexpr (kIsInteger<T> || std::is_floating_point_v<T>) return static_cast<double>(v);
        return {};
      },
      value);
}

}  // namespace

std::string describe(const GgufValue& value) {
  return std::visit(
      [](const auto& v) {
        using T = std::decay_t<decltype(v)>;
        if constexpr (IsVector<T>::value) {
          return "array of " + std::to_string(v.size()) + " " + type_name<typename T::value_type>();
        } else if constexpr (std::is_same_v<T, std::string>) {
          return "string '" + printable(v) + "'";
        } else {
          return type_name<T>() + " " + std::to_string(v);
        }
      },
      value);
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto place = index_.find(std::string(key));
  return place == index_.end() ? nullptr : &metadata_[place->second].second;
}

const GgufValue& GgufFile::at(std::string_view key, const char* expected) const {
  if (const GgufValue* value = find(key)) return *value;
  throw Error(ErrorCode::format, "metadata key is missing",
              {.file = path_, .tensor = printable(key), .expected = expected});
}

void GgufFile::wrong_type(std::string_view key, const char* expected) const {
  throw Error(ErrorCode::format, "metadata value is not of the right kind",
              {.file = path_,
               .tensor = printable(key),
               .expected = expected,
               .found = describe(at(key, expected))});
}

std::int64_t GgufFile::integer(std::string_view key) const {
  constexpr const char* kExpected = "an integer";
  const auto value = as_integer(at(key, kExpected));
  if (!value) wrong_type(key, kExpected);
  return *value;
}

double GgufFile::number(std::string_view key) const {
  constexpr const char* kExpected = "a number";
  const auto value = as_number(at(key, kExpected));
  if (!value) wrong_type(key, kExpected);
  return *value;
}

bool GgufFile::boolean(std::string_view key) const {
  constexpr const char* kExpected = "a bool";
  const bool* value = std::get_if<bool>(&at(key, kExpected));
  if (value == nullptr) wrong_type(key, kExpected);
  return *value;
}

const std::string& GgufFile::string(std::string_view key) const {
  constexpr const char* kExpected = "a string";
  const auto* value = std::get_if<std::string>(&at(key, kExpected));
  if (value == nullptr) wrong_type(key, kExpected);
  return *value;
}

std::vector<std::int64_t> GgufFile::integers(std::string_view key) const {
  constexpr const char* kExpected = "an array of integers";
  std::vector<std::int64_t> out;
  const bool fits = std::visit(
      [&](const auto& v) {
        using T = std::decay_t<decltype(v)>;
        if constexpr (IsVector<T>::value) {
          if constexpr (kIsInteger<typename T::value_type>) {
            out.reserve(v.size());
            for (const auto element : v) {
              if (!std::in_range<std::int64_t>(element)) return false;
              out.push_back(static_cast<std::int64_t>(element));
            }
            return true;
          }
        }
        return false;
      },
      at(key, kExpected));
  if (!fits) wrong_type(key, kExpected);
  return out;
}

std::vector<float> GgufFile::floats(std::string_view key) const {
  constexpr const char* kExpected = "an array of floats";
  const GgufValue& value = at(key, kExpected);
  if (const auto* singles = std::get_if<std::vector<float>>(&value)) return *singles;
  const auto* doubles = std::get_if<std::vector<double>>(&value);
  if (doubles == nullptr) wrong_type(key, kExpected);
  return {doubles->begin(), doubles->end()};
}

const std::vector<std::string>& GgufFile::strings(std::string_view key) const {
  constexpr const char* kExpected = "an array of strings";
  const auto* value = std::get_if<std::vector<std::string>>(&at(key, kExpected));
  if (value == nullptr) wrong_type(key, kExpected);
  return *value;
}

std::int64_t GgufFile::integer(std::string_view key, std::int64_t otherwise) const {
  return has(key) ? integer(key) : otherwise;
}

double GgufFile::number(std::string_view key, double otherwise) const {
  return has(key) ? number(key) : otherwise;
}

bool GgufFile::boolean(std::string_view key, bool otherwise) const {
  return has(key) ? boolean(key) : otherwise;
}

std::string GgufFile::string(std::string_view key, std::string_view otherwise) const {
  return has(key) ? string(key) : std::string(otherwise);
}

GgufSplit split_of(const GgufFile& file) {
  const auto listed = static_cast<std::int64_t>(file.tensors().size());
  const GgufSplit split{.number = file.integer("split.no", 0),
                        .count = file.integer("split.count", 1),
                        .tensors = file.integer("split.tensors.count", listed)};
  // gguf-split writes a count of 0 into a merged file.
  if (split.count == 0 && split.number == 0) return {0, 1, listed};
  const auto bad = [&](const char* key, const char* message) {
    throw Error(ErrorCode::format, message,
                {.file = file.path(), .tensor = key, .found = describe(*file.find(key))});
  };
  if (split.count < 0 || split.count > 65535) bad("split.count", "not a number of files");
  if (split.number < 0 || split.number >= split.count)
    bad("split.no", "not one of the split's files");
  if (split.tensors < listed || (split.count == 1 && split.tensors != listed)) {
    bad("split.tensors.count", "disagrees with the tensors in this file");
  }
  return split;
}

std::string split_path(const std::string& stem, const GgufSplit& split) {
  char suffix[32];
  std::snprintf(suffix, sizeof suffix, "-%05d-of-%05d.gguf", static_cast<int>(split.number + 1),
                static_cast<int>(split.count));
  return stem + suffix;
}

std::string split_path(const std::string& path, const GgufSplit& split, std::int64_t number) {
  const std::string own = split_path("", split);
  if (!path.ends_with(own)) {
    throw Error(ErrorCode::format, "one of several files of a split model, but not named like one",
                {.file = path, .expected = "a name ending in " + own});
  }
  return split_path(path.substr(0, path.size() - own.size()), {number, split.count, split.tensors});
}

}  // namespace neap
