#include "model/chat_value.h"

#include <optional>

#include "neap/error.h"

namespace neap {
namespace {

std::string quoted(std::string_view text) {
  static const char* const kHex = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out.append("\\u00").append(1, kHex[c >> 4]).append(1, kHex[c & 15]);
        } else {
          out += c;
        }
    }
  }
  out += '"';
  return out;
}

class JsonWriter {
 public:
  explicit JsonWriter(std::int64_t indent) : indent_(indent) {}

  std::string value(const ChatValue& v, int depth) const {
    if (v.none()) return "null";
    if (const bool* b = v.get<bool>()) return *b ? "true" : "false";
    if (const std::int64_t* i = v.get<std::int64_t>()) return std::to_string(*i);
    if (v.string() != nullptr) return quoted(*v.string());
    if (v.list() != nullptr) {
      return block('[', ']', *v.list(), depth,
                   [&](const ChatValue& item) { return value(item, depth + 1); });
    }
    if (v.mapping()) {
      return block('{', '}', *v.members(), depth, [&](const auto& member) {
        return quoted(member.first).append(": ").append(value(member.second, depth + 1));
      });
    }
    chat_unsupported(std::string("JSON of a value of type ") + v.type());
  }

 private:
  template <class Items, class Write>
  std::string block(char open, char close, const Items& items, int depth,
                    const Write& write) const {
    if (items.empty()) return {open, close};
    std::string out(1, open);
    const char* separator = "";
    for (const auto& item : items) {
      out.append(separator).append(line(depth + 1)).append(write(item));
      separator = indent_ < 0 ? ", " : ",";
    }
    out.append(line(depth));
    out.push_back(close);
    return out;
  }
  std::string line(int depth) const {
    if (indent_ < 0) return {};
    return std::string(1, '\n').append(static_cast<std::size_t>(indent_ * depth), ' ');
  }

  std::int64_t indent_;
};

}  // namespace

const ChatValue* ChatArguments::find(std::size_t position, std::string_view name) const {
  return position < positional.size() ? &positional[position] : find_member(named, name);
}

const ChatList* ChatValue::list() const {
  const auto* shared = get<std::shared_ptr<const ChatList>>();
  return shared != nullptr ? shared->get() : nullptr;
}

const ChatMembers* ChatValue::members() const {
  if (const auto* space = get<ChatNamespace>()) return space->members;
  const auto* shared = get<std::shared_ptr<const ChatMembers>>();
  return shared != nullptr ? shared->get() : nullptr;
}

const ChatFunction* ChatValue::function() const {
  const auto* shared = get<std::shared_ptr<const ChatFunction>>();
  return shared != nullptr ? shared->get() : nullptr;
}

const char* ChatValue::type() const {
  static const char* const kNames[] = {"undefined", "None", "bool", "int",       "float",
                                       "str",       "list", "dict", "namespace", "function"};
  return kNames[data_.index()];
}

bool ChatValue::truth() const {
  if (undefined() || none()) return false;
  if (const bool* b = get<bool>()) return *b;
  if (const std::int64_t* i = get<std::int64_t>()) return *i != 0;
  if (const double* d = get<double>()) return *d != 0;
  if (string() != nullptr) return !string()->empty();
  if (list() != nullptr) return !list()->empty();
  return !mapping() || !members()->empty();
}

std::string ChatValue::text() const {
  if (undefined()) return "";
  if (none()) return "None";
  if (const bool* b = get<bool>()) return *b ? "True" : "False";
  if (const std::int64_t* i = get<std::int64_t>()) return std::to_string(*i);
  if (string() != nullptr) return *string();
  chat_unsupported(std::string("printing a value of type ") + type());
}

bool operator==(const ChatValue& a, const ChatValue& b) {
  const auto number = [](const ChatValue& v) -> std::optional<double> {
    if (const bool* flag = v.get<bool>()) return *flag ? 1 : 0;
    if (const std::int64_t* i = v.get<std::int64_t>()) return static_cast<double>(*i);
    if (const double* d = v.get<double>()) return *d;
    return std::nullopt;
  };
  if (const auto left = number(a)) return left == number(b);
  if (a.string() != nullptr) return b.string() != nullptr && *a.string() == *b.string();
  if (a.list() != nullptr) return b.list() != nullptr && *a.list() == *b.list();
  if (a.mapping()) {
    if (!b.mapping() || a.members()->size() != b.members()->size()) return false;
    for (const auto& [name, value] : *a.members()) {
      const ChatValue* other = find_member(*b.members(), name);
      if (other == nullptr || !(value == *other)) return false;
    }
    return true;
  }
  return (a.none() && b.none()) || (a.undefined() && b.undefined());
}

const ChatValue* find_member(const ChatMembers& members, std::string_view name) {
  for (const auto& member : members) {
    if (member.first == name) return &member.second;
  }
  return nullptr;
}

std::string chat_json(const ChatValue& value, std::int64_t indent) {
  return JsonWriter(indent).value(value, 0);
}

void chat_unsupported(const std::string& what) {
  throw Error(ErrorCode::unsupported,
              "the chat template uses what is not implemented here: " + what);
}

void chat_failure(const std::string& what) {
  throw Error(ErrorCode::data, "the chat template does not take this conversation: " + what);
}

}  // namespace neap
